"""The engine that an address asks for. Its client library is loaded here, and only where it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from regional.engines.address import EngineAddress
from regional.engines.backing import PATIENCE_S, Backing
from regional.engines.front import Front
from regional.engines.mirror import Home
from regional.partition import Partition
from registry.errors import ConfigError

_BACKINGS: Final = {
    "nats": ("regional.engines.nats", "NatsBacking"),
}


def engine_at(
    address: EngineAddress, home: Home, d: int, partition: Partition | None = None, patience_s: float = PATIENCE_S
) -> Front:
    """A front on a server, not open yet. Raises ConfigError for an option that it does not have."""
    module, name = _BACKINGS[address.scheme]
    try:
        made: Any = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"engine {address.where}: {error.name} is not installed; pip install 'kindred[{address.scheme}]'"
        ) from None
    backing: Backing = made(address, patience_s)
    return Front(home, d, backing, partition)
