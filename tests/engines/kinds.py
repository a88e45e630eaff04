"""What the suite must know of an engine: how it is started, and what its guide promises."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from regional.engine import Engine
from regional.engines.address import EngineAddress
from regional.engines.embedded import EmbeddedEngine
from regional.engines.mirror import Home
from regional.engines.opening import engine_at
from regional.engines.writer import Writer
from regional.partition import Partition
from tests.engines.servers import NatsServers, Servers

D = 8
HOME = Home("tests", b"12345678", "net")
PATIENCE_S = 6.0


class Kind:
    """One way to keep packets."""

    name: ClassVar[str]
    survives_kill: ClassVar[bool] = True  # what was acknowledged, when the server is killed
    many: ClassVar[bool] = True  # several engines on one store at once
    pid: int | None = None

    def __init__(self, home: Path) -> None:
        self.home = home

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def engine(self, name: str, partition: Partition | None = None, options: str = "") -> Engine:
        """An engine on the store `name`, not open yet."""
        raise NotImplementedError


class Embedded(Kind):
    name = "embedded"
    many = False

    def start(self) -> None:
        self.writer = Writer()

    def stop(self) -> None:
        self.writer.close()

    def engine(self, name: str, partition: Partition | None = None, options: str = "") -> Engine:
        assert not options
        return EmbeddedEngine(HOME.network, D, self.home / name, self.writer, partition=partition)


class Served(Kind):
    """An engine whose packets a server keeps."""

    servers: Servers

    def start(self) -> None:
        self.servers.start()

    def stop(self) -> None:
        self.servers.kill()

    def engine(self, name: str, partition: Partition | None = None, options: str = "") -> Engine:
        address = EngineAddress.parse(self.servers.url(name, options), HOME.network)
        return engine_at(address, HOME, D, partition, PATIENCE_S)


class Nats(Served):
    name = "nats"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.servers = NatsServers(home)


KINDS = [Embedded, Nats]
