"""What the suite must know of an engine: how it is started, and what its guide promises."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import aiohttp
import aiomqtt
import grpc
import nats
import numpy as np
from pymilvus.grpc_gen import milvus_pb2
from redis.asyncio import Redis

from regional.engine import Engine
from regional.engines.address import EngineAddress
from regional.engines.embedded.engine import EmbeddedEngine
from regional.engines.embedded.writer import Writer
from regional.engines.etcd.link import encoded
from regional.engines.front import Front
from regional.engines.milvus.link import MilvusLink
from regional.engines.milvus.rows import FOUND, Held, packet_row
from regional.engines.mirror import Home
from regional.engines.opening import engine_at
from regional.packets.packet import node_text
from regional.partition import Partition
from tests.engines.certificates import Certificates
from tests.engines.milvus_server import MilvusServer
from tests.engines.servers import EtcdServers, MqttBroker, NatsServers, RedisServer, Servers, answering

D = 8
PARTED = Partition(3, np.array([[-3] * D, [0] * D, [3] * D, [3] + [0] * (D - 1)], dtype=np.float32))
HOME = Home("tests", b"12345678", "net")
PATIENCE_S = 6.0


class Kind(ABC):
    """One way to keep packets."""

    name: ClassVar[str]
    compares: ClassVar[bool] = True  # the server itself keeps the highest seq
    keeps_history: ClassVar[bool] = False  # where `?history=` is asked for

    def __init__(self, home: Path) -> None:
        self.home = home

    @abstractmethod
    def start(self) -> None: ...

    def start_for_all(self) -> None:
        """Started once for the session."""
        self.start()

    @abstractmethod
    def stop(self) -> None: ...

    @abstractmethod
    def engine(self, name: str, partition: Partition | None = None, options: str = "") -> Engine:
        """An engine on the store `name`, not open yet."""


class Embedded(Kind):
    name = "embedded"
    keeps_history = True

    def start(self) -> None:
        self.writer = Writer()

    def stop(self) -> None:
        self.writer.close()

    def engine(self, name: str, partition: Partition | None = None, options: str = "") -> Engine:
        history = int(options.removeprefix("?history=") or 1)
        return EmbeddedEngine(HOME.network, D, self.home / name, self.writer, partition=partition, history=history)


class Served(Kind):
    """An engine whose packets a server keeps."""

    servers: Servers
    password: ClassVar[str] = "right"  # noqa: S105

    @classmethod
    @abstractmethod
    def guarded(cls, home: Path) -> Served:
        """One server that wants the user `kindred` and `password`."""

    @classmethod
    @abstractmethod
    def encrypted(cls, home: Path, files: Certificates) -> Served:
        """One server that speaks TLS only."""

    @classmethod
    def small(cls, home: Path) -> Served | None:  # noqa: ARG003
        """One server with room for a few thousand packets; None for one that cannot say that it is full."""
        return None

    @abstractmethod
    async def meddle(self, name: str, key: str, value: bytes) -> None:
        """Another program writes beside our packets, at `key`: VERSION, BUCKET and NODE with slashes between them."""

    old: ClassVar[Callable[[bytes], bytes]]  # what a server that is too old replies to what it receives, b"" first

    @classmethod
    def antique(cls) -> AbstractAsyncContextManager[int]:
        """The port of something that claims to be a server that is too old."""
        return answering(cls.old)

    def start(self) -> None:
        self.servers.start()

    def stop(self) -> None:
        self.servers.kill()

    def engine(self, name: str, partition: Partition | None = None, options: str = "") -> Front:
        return self.front(name, partition, options)

    def front(
        self,
        name: str,
        partition: Partition | None = None,
        options: str = "",
        home: Home = HOME,
        patience_s: float = PATIENCE_S,
        **guarded: str,
    ) -> Front:
        """The same, for another home, less patient, or with user and password."""
        address = EngineAddress.parse(self.servers.url(name, options), home.network)
        return engine_at(replace(address, **guarded), home, D, partition, patience_s)  # type: ignore[arg-type]


class Nats(Served):
    name = "nats"
    keeps_history = True

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.servers = NatsServers(home)

    @classmethod
    def guarded(cls, home: Path) -> Served:
        made = cls(home)
        made.servers = NatsServers(home, 1, "authorization { user: kindred, password: right }")
        return made

    @classmethod
    def encrypted(cls, home: Path, files: Certificates) -> Served:
        made = cls(home)
        tls = f'tls {{ cert_file: "{files.certificate}", key_file: "{files.key}" }}'
        made.servers = NatsServers(home, 1, tls)
        return made

    @classmethod
    def small(cls, home: Path) -> Served:
        made = cls(home)
        made.servers = NatsServers(home, 1, max_file="1MB")
        return made

    async def meddle(self, name: str, key: str, value: bytes) -> None:
        client = await nats.connect(f"nats://{self.servers.hosts.split(',')[0]}")
        version, bucket, node = key.split("/")
        await client.jetstream().publish(f"$KV.{name}.v{version}.{bucket}.{node_text(node.encode())}", value)
        await client.close()

    @staticmethod
    def old(received: bytes) -> bytes:
        if not received:
            info = {"server_id": "X", "version": "2.1.0", "max_payload": 1 << 20, "headers": True, "proto": 1}
            return b"INFO " + json.dumps(info).encode() + b"\r\n"
        return b"PONG\r\n" if b"PING" in received else b""


class Etcd(Served):
    name = "etcd"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.servers = EtcdServers(home)

    @classmethod
    def guarded(cls, home: Path) -> Served:
        made = cls(home)
        made.servers = EtcdServers(home, 1, guarded=True)
        return made

    @classmethod
    def encrypted(cls, home: Path, files: Certificates) -> Served:
        made = cls(home)
        tls = ("--cert-file", str(files.certificate), "--key-file", str(files.key))
        made.servers = EtcdServers(home, 1, options=tls, encrypted=True)
        return made

    @classmethod
    def small(cls, home: Path) -> Served:
        made = cls(home)
        made.servers = EtcdServers(home, 1, options=("--quota-backend-bytes", str(1 << 20)))
        return made

    async def meddle(self, name: str, key: str, value: bytes) -> None:
        version, bucket, node = key.split("/")
        place = f"kindred/{name}/v{version}/{bucket}/{node.encode().hex()}"
        body = {"key": encoded(place.encode()), "value": encoded(value)}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://{self.servers.hosts.split(',')[0]}/v3/kv/put", json=body) as response,
        ):
            assert response.status == 200

    @staticmethod
    def old(received: bytes) -> bytes:
        body = b'{"etcdserver": "3.2.9", "etcdcluster": "3.2.0"}'
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body) if received else b""


class RedisKind(Served):
    name = "redis"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.servers = RedisServer(home)

    @classmethod
    def guarded(cls, home: Path) -> Served:
        made = cls(home)
        made.servers = RedisServer(home, "user kindred on >right ~* &* +@all\nuser default off\n")
        return made

    @classmethod
    def encrypted(cls, home: Path, files: Certificates) -> Served:
        made = cls(home)
        tls = f"tls-cert-file {files.certificate}\ntls-key-file {files.key}\ntls-ca-cert-file {files.ca}\n"
        made.servers = RedisServer(home, f"{tls}tls-auth-clients no\n", encrypted=True)
        return made

    @classmethod
    def small(cls, home: Path) -> Served:
        made = cls(home)
        made.servers = RedisServer(home, "maxmemory 3mb\nmaxmemory-policy noeviction\n")
        return made

    async def meddle(self, name: str, key: str, value: bytes) -> None:
        client = Redis.from_url(f"redis://{self.servers.hosts}")
        version, bucket, node = key.split("/")
        root = f"kindred:{{{name}}}:v{version}:"
        await client.hset(root + bucket, node, value)
        await client.hset(root + "at", node, f"{bucket}:{1:020d}")
        await client.zadd(root + "changes", {node: await client.incr(root + "revision")})
        await client.aclose()

    @staticmethod
    def old(received: bytes) -> bytes:
        if b"INFO" in received.upper():
            body = b"redis_version:5.0.3\r\n"
            return b"$%d\r\n%s\r\n" % (len(body), body)
        return b"+OK\r\n" * received.upper().count(b"*") if received else b""


class Mqtt(Served):
    name = "mqtt"
    compares = False

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.servers = MqttBroker(home)

    @classmethod
    def guarded(cls, home: Path) -> Served:
        made = cls(home)
        made.servers = MqttBroker(home, {"kindred": "right"})
        return made

    @classmethod
    def encrypted(cls, home: Path, files: Certificates) -> Served:
        made = cls(home)
        made.servers = MqttBroker(home, options=f"certfile {files.certificate}\nkeyfile {files.key}")
        return made

    async def meddle(self, name: str, key: str, value: bytes) -> None:
        version, bucket, node = key.split("/")
        async with aiomqtt.Client("127.0.0.1", self.servers.processes[0].port) as client:
            topic = f"kindred/{name}/v{version}/{bucket}/{node.encode().hex()}"
            await client.publish(topic, value, qos=1, retain=True)

    @staticmethod
    def old(received: bytes) -> bytes:
        return b"\x20\x03\x00\x84\x00" if received else b""


class Milvus(Served):
    """Its stores with the suite's partition are made ahead, all at once: the server takes seconds to load one."""

    name = "milvus"
    password = "right!"  # noqa: S105
    AHEAD = 28

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.servers = MilvusServer(home)
        self._ahead: list[str] = []
        self._names: dict[str, str] = {}

    @classmethod
    def guarded(cls, home: Path) -> Served:
        made = cls(home)
        made.servers = MilvusServer(home, {"authorizationEnabled: false": "authorizationEnabled: true"}, guarded=True)
        return made

    @classmethod
    def encrypted(cls, home: Path, files: Certificates) -> Served:
        made = cls(home)
        words = {"tlsMode: 0": "tlsMode: 1", "server.pem": str(files.certificate), "server.key": str(files.key)}
        made.servers = MilvusServer(home, words, encrypted=True)
        return made

    @classmethod
    def small(cls, home: Path) -> Served:
        made = cls(home)
        often = {"quotaCenterCollectInterval: 3": "quotaCenterCollectInterval: 1", "syncPeriod: 600": "syncPeriod: 1"}
        made.servers = MilvusServer(
            home, {"diskQuota: -1": "diskQuota: 1", "insertBufSize: 16777216": "insertBufSize: 65536", **often}
        )
        return made

    def start_for_all(self) -> None:
        self.start()
        with ThreadPoolExecutor(1) as beside:
            beside.submit(asyncio.run, self._make_stores()).result()

    async def _make_stores(self) -> None:
        names = [f"ahead-{number}" for number in range(self.AHEAD)]
        engines = [super(Milvus, self).front(name, PARTED) for name in names]
        await asyncio.gather(*(engine.open() for engine in engines))
        await asyncio.gather(*(engine.close() for engine in engines))
        self._ahead = names

    def front(
        self,
        name: str,
        partition: Partition | None = None,
        options: str = "",
        home: Home = HOME,
        patience_s: float = PATIENCE_S,
        **guarded: str,
    ) -> Front:
        if partition is PARTED and name not in self._names and self._ahead:
            self._names[name] = self._ahead.pop()
        return super().front(self._names.get(name, name), partition, options, home, patience_s, **guarded)

    async def meddle(self, name: str, key: str, value: bytes) -> None:
        _, bucket, node = key.split("/")
        address = EngineAddress.parse(self.servers.url(name), HOME.network)
        link = MilvusLink(address)
        await link.open()
        held = Held(FOUND, 1, int(bucket))
        row = packet_row(node.encode(), held, "a", np.zeros(D, dtype=np.float32), value, 1 << 32, D)
        await link.call("upsert", f"kindred_{name.replace('-', '_')}", [row])
        await link.close()

    @classmethod
    @asynccontextmanager
    async def antique(cls) -> AsyncIterator[int]:
        async def connect(request: object, context: object) -> milvus_pb2.ConnectResponse:
            return milvus_pb2.ConnectResponse(identifier=1)

        async def version(request: object, context: object) -> milvus_pb2.GetVersionResponse:
            return milvus_pb2.GetVersionResponse(version="v2.2.9")

        replies = {
            "Connect": (connect, milvus_pb2.ConnectRequest),
            "GetVersion": (version, milvus_pb2.GetVersionRequest),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                reply, request_deserializer=kind.FromString, response_serializer=lambda made: made.SerializeToString()
            )
            for name, (reply, kind) in replies.items()
        }
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("milvus.proto.milvus.MilvusService", handlers)]
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield port
        finally:
            await server.stop(None)


SERVED = [Nats, Etcd, RedisKind, Mqtt, Milvus]
KINDS = [Embedded, *SERVED]
