"""A whole federation in this process: registry, name server, networks, gateway; real sockets, real disk."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from jsonschema import Draft202012Validator

from gateway.cli.deposit import deposit_all
from gateway.cli.network import running_networks
from gateway.cli.registry import running_registry
from gateway.cli.running import serving
from gateway.cli.up import make_keys
from gateway.configuration.config import FederationConfig
from gateway.federation import Federation
from gateway.service import gateway_app
from registry.clock import Clock
from tests.ports import free_port

ROOT = Path(__file__).parent.parent.parent
DATA = ROOT / "examples" / "data"
LONGEST_WAIT_S = 60.0
ANSWER = Draft202012Validator(orjson.loads((ROOT / "gateway" / "answer.schema.json").read_bytes()))

Document = dict[str, Any]


def write_slice(name: str, home: Path, every: int) -> Path:
    """The header and every so-manieth row of an example file, as a plain CSV in `home`."""
    with gzip.open(DATA / f"{name}.csv.gz", "rt", encoding="utf-8", newline="") as source:
        lines = source.readlines()
    path = home / f"{name}.csv"
    path.write_text("".join([lines[0], *lines[1::every]]), encoding="utf-8", newline="")
    return path


def situation(name: str) -> Document:
    """One of examples/situations."""
    found: Document = json.loads((ROOT / "examples" / "situations" / f"{name}.json").read_text())
    return found


class Role:
    """One role of the federation that can be stopped and started again, as its process could."""

    def __init__(self, run: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self._run = run
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stop.clear()
        self._task = asyncio.create_task(self._live(started))
        await started

    async def stop(self) -> None:
        if self._task is not None:
            self._stop.set()
            await self._task
            self._task = None

    async def _live(self, started: asyncio.Future[None]) -> None:
        """From start to end in one task."""
        try:
            async with self._run():
                started.set_result(None)
                await self._stop.wait()
        except Exception as error:
            if started.done():
                raise
            started.set_exception(error)


class Federated:
    """The running federation, its gateway's address, and a session to ask it with."""

    def __init__(self, config: FederationConfig, session: aiohttp.ClientSession, waiting: Clock | None = None) -> None:
        self.config = config
        self.session = session
        self.url = f"http://{config.gateway.listen}"
        self.registry = Role(lambda: running_registry(config))
        self.processes = {
            name: Role(lambda chosen=chosen: running_networks(config, chosen, waiting))  # type: ignore[misc]
            for name, chosen in config.processes().items()
        }
        self.gateway = Role(self._gateway)
        self.federation: Federation

    @asynccontextmanager
    async def _gateway(self) -> AsyncIterator[None]:
        async with Federation.open(self.config) as federation:
            self.federation = federation
            async with serving(gateway_app(federation), self.config.gateway.listen):
                yield

    async def post(self, path: str, body: object, content_type: str = "application/json") -> tuple[int, Document]:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        headers = {"Content-Type": content_type}
        async with self.session.post(self.url + path, data=io.BytesIO(data), headers=headers) as response:
            return response.status, orjson.loads(await response.read())

    async def get(self, path: str) -> tuple[int, Document]:
        async with self.session.get(self.url + path) as response:
            return response.status, orjson.loads(await response.read())

    async def ask(self, **question: object) -> Document:
        """An answer, which there must be."""
        status, document = await self.post("/v1/ask", {"deadline_ms": 10_000, **question})
        assert status == 200, document
        ANSWER.validate(document)
        return document

    async def deposit(self, *names: str) -> None:
        """Let these networks (or all) take their `data`, and wait until the registry has published it."""
        chosen = [(each, each.data) for each in self.config.networks.values() if each.data is not None]
        wanted = [(each, path) for each, path in chosen if not names or each.name in names]
        for result in await deposit_all(self.config, wanted, quiet=True):
            assert not result.rejected
            assert result.covered

    async def registry_says(self, path: str) -> Document:
        async with self.session.get(f"http://{self.config.registry.http}{path}") as response:
            found: Document = orjson.loads(await response.read())
            return found


@asynccontextmanager
async def federated(home: Path, text: str, waiting: Clock | None = None) -> AsyncIterator[Federated]:
    """Run what `text` (a federation.yaml, see write_config) describes. waiting: what splits wait by."""
    path = write_config(home, text)
    config = FederationConfig.from_yaml(path)
    make_keys(config)
    async with aiohttp.ClientSession() as session:
        running = Federated(config, session, waiting)
        roles = [running.registry, *running.processes.values(), running.gateway]
        try:
            for role in roles:
                await role.start()
            yield running
        finally:
            for role in reversed(roles):
                await role.stop()


def write_config(home: Path, text: str) -> Path:
    """federation.yaml in `home`, with `@NAME` spelled out as 127.0.0.1 and a free port, the same for equal names."""
    home.mkdir(parents=True, exist_ok=True)
    taken: set[int] = set()
    words = text.split("@")
    names: dict[str, int] = {}
    result = [words[0]]
    for word in words[1:]:
        name = word[: len(word) - len(word.lstrip("abcdefghijklmnopqrstuvwxyz"))]
        while name not in names:
            port = free_port()
            if port not in taken:
                names[name] = port
                taken.add(port)
        result.append(f'"127.0.0.1:{names[name]}"{word[len(name) :]}')
    path = home / "federation.yaml"
    path.write_text("".join(result).replace("$ROOT", str(ROOT)).replace("$HOME", str(home)))
    return path


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again until it holds; for what tells no one when it happens."""
    async with asyncio.timeout(LONGEST_WAIT_S):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
