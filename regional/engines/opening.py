"""The engine that an address asks for. Its client library is loaded here, and only where it is asked for."""

from __future__ import annotations

from importlib import import_module
from operator import attrgetter
from typing import Any, Final

from regional.engine import Engine
from regional.engines.address import EngineAddress
from regional.engines.backing import PATIENCE_S, Backing, Readable
from regional.engines.embedded.engine import EmbeddedEngine
from regional.engines.front import Front
from regional.engines.mirror import Home
from regional.partition import Partition
from registry.clock import Clock
from registry.errors import ConfigError
from registry.keys import SigningKey

_ENGINES: Final = {  # those that answer themselves, and those whose packets a front mirrors
    "milvus": ("regional.engines.milvus.engine", "MilvusEngine"),
    "mqtt": ("regional.engines.mqtt.engine", "MqttBacking"),
    "nats": ("regional.engines.nats.engine", "NatsBacking"),
    "etcd": ("regional.engines.etcd.engine", "EtcdBacking"),
    "redis": ("regional.engines.redis.engine", "RedisBacking"),
}
_READABLES: Final = {
    "mqtt": ("regional.engines.mqtt.reading", "MqttReading"),
    "nats": ("regional.engines.nats.engine", "NatsBacking.reading"),
    "redis": ("regional.engines.redis.engine", "RedisBacking.reading"),
}
DHT: Final = "dht"  # no server: its owner keeps the packets in a store of its own, and publishes them
READABLE: Final = (*_READABLES, DHT)  # schemes of what can be read without a network's service before it


def engine_at(
    address: EngineAddress, home: Home, d: int, partition: Partition | None = None, patience_s: float = PATIENCE_S
) -> Engine:
    """An engine on a server, not open yet. Raises ConfigError for an option that it does not have."""
    made = load(_ENGINES[address.scheme], address.where, address.scheme)
    if address.scheme == "milvus":
        engine: Engine = made(home, d, address, partition, patience_s)
        return engine
    backing: Backing = made(address, patience_s)
    return Front(home, d, backing, partition)


def readable_at(address: EngineAddress, patience_s: float) -> Readable:
    """A server's packets for those who only read, not open yet; its scheme is one of READABLE, and not DHT.

    Raises ConfigError.
    """
    readable: Readable = load(_READABLES[address.scheme], address.where, address.scheme)(address, patience_s)
    return readable


def published_at(
    address: EngineAddress, home: Home, d: int, truth: EmbeddedEngine, key: SigningKey, clock: Clock
) -> Engine:
    """What keeps packets in `truth` and publishes them in the DHT at `address`, not open yet. Raises ConfigError."""
    made: Engine = load(("regional.engines.dht.engine", "DhtEngine.at"), address.where, DHT)(
        address, home, d, truth, key, clock
    )
    return made


def load(place: tuple[str, str], where: str, extra: str) -> Any:
    """What stands in a module under a name. Raises ConfigError where the library of this extra is not installed."""
    module, name = place
    try:
        return attrgetter(name)(import_module(module))
    except ModuleNotFoundError as error:
        raise ConfigError(f"engine {where}: {error.name} is not installed; pip install 'kindred[{extra}]'") from None
