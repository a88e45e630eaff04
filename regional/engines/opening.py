"""The engine that an address asks for. Its client library is loaded here, and only where it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from regional.engine import Engine
from regional.engines.address import EngineAddress
from regional.engines.backing import PATIENCE_S, Backing
from regional.engines.front import Front
from regional.engines.mirror import Home
from regional.partition import Partition
from registry.errors import ConfigError

_ENGINES: Final = {  # those that answer themselves, and those whose packets a front mirrors
    "milvus": ("regional.engines.milvus", "MilvusEngine"),
    "mqtt": ("regional.engines.mqtt", "MqttBacking"),
    "nats": ("regional.engines.nats", "NatsBacking"),
    "etcd": ("regional.engines.etcd", "EtcdBacking"),
    "redis": ("regional.engines.redis", "RedisBacking"),
}


def engine_at(
    address: EngineAddress, home: Home, d: int, partition: Partition | None = None, patience_s: float = PATIENCE_S
) -> Engine:
    """An engine on a server, not open yet. Raises ConfigError for an option that it does not have."""
    module, name = _ENGINES[address.scheme]
    try:
        made: Any = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"engine {address.where}: {error.name} is not installed; pip install 'kindred[{address.scheme}]'"
        ) from None
    if address.scheme == "milvus":
        engine: Engine = made(home, d, address, partition, patience_s)
        return engine
    backing: Backing = made(address, patience_s)
    return Front(home, d, backing, partition)
