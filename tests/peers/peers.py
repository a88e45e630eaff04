"""Knot, NSD and BIND, each started from its shipped configuration (examples/peers), on free ports of loopback."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import dns.asyncquery
import dns.exception
import dns.message
import dns.rcode

from tests.ports import free_port
from tests.programs import program

SHIPPED = Path(__file__).parent.parent.parent / "examples" / "peers"
DEADLINE_S = 40.0
_T = TypeVar("_T")


async def output_of(*command: str | Path, ok: bool = True) -> str:
    """What a command writes; it must end well, unless told otherwise."""
    process = await asyncio.create_subprocess_exec(
        program(str(command[0])), *command[1:], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(2 * DEADLINE_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0 or not ok, output.decode()
    return output.decode()


async def until(holds: Callable[[], Awaitable[_T | None]], what: Callable[[], str] = str) -> _T:
    """Ask again and again until it holds; for what tells no one when it happens."""
    last = "nothing"
    try:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                found = await holds()
                if found:
                    return found
                await asyncio.sleep(0.02)
    except TimeoutError:
        last = what()
    raise AssertionError(f"it does not come to hold: {last}")


@dataclass(slots=True, eq=False)
class Peer:
    """A server on its port. words: what its shipped configuration leaves open."""

    name: str
    shipped: str
    home: Path
    words: Mapping[str, str]
    port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")

    @property
    def configuration(self) -> Path:
        return self.home / self.shipped

    def write(self) -> None:
        """The shipped configuration, with the words filled in."""
        self.home.mkdir(parents=True, exist_ok=True)
        text = (SHIPPED / self.shipped).read_text()
        if self.name == "nsd":
            text = _each_domain(text, self.words["DOMAINS"].split())
        given = {
            "PORT": str(self.port),
            "DIR": str(self.home),
            "LISTEN-HOST": "127.0.0.1",
            "LISTEN-PORT": str(self.port),
            "LISTEN": f"127.0.0.1@{self.port}",
            **self.words,
        }
        for word in sorted(given, key=len, reverse=True):
            text = text.replace(word, given[word])
        self.configuration.write_text(text)

    async def start(self) -> None:
        self.write()
        (self.home / "db").mkdir(exist_ok=True)
        command = {
            "knot": ["knotd", "-c", self.configuration],
            "nsd": ["nsd", "-d", "-c", self.configuration],
            "bind": ["named", "-g", "-c", self.configuration],
            "unbound": ["unbound", "-d", "-c", self.configuration],
        }[self.name]
        with (self.home / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                program(str(command[0])), *command[1:], stdout=log, stderr=log, cwd=self.home
            )
        await until(self._answers, lambda: self.log[-2000:])

    async def stop(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(DEADLINE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, self.log[-2000:]
        return await self.ask(".", "NS") is not None

    async def ask(self, name: str, rtype: str, *, tcp: bool = False) -> dns.message.Message | None:
        """Its answer, None where there is none."""
        return await ask(self.port, name, rtype, tcp=tcp)

    async def serial(self, apex: str) -> int | None:
        """Of its copy of the zone; None where it has none."""
        answer = await self.ask(apex, "SOA")
        if answer is None or answer.rcode() != dns.rcode.NOERROR or not answer.answer:
            return None
        return int(answer.answer[0][0].serial)

    async def has(self, apex: str, serial: int) -> int:
        """Wait until its copy is of this serial or a later one; returns it."""

        async def there() -> int | None:
            found = await self.serial(apex)
            return found if found is not None and found >= serial else None

        return await until(there, lambda: f"{self.name}: {apex} {serial}: {self.log[-3000:]}")


async def ask(
    port: int, name: str, rtype: str, *, tcp: bool = False, dnssec: bool = False
) -> dns.message.Message | None:
    """The answer of the server on this port of loopback, None where there is none."""
    query = dns.message.make_query(name, rtype, want_dnssec=dnssec, payload=1232)
    send = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    try:
        return await send(query, "127.0.0.1", port=port, timeout=1.0)
    except (OSError, dns.exception.DNSException, EOFError):
        return None


def _each_domain(text: str, domains: Sequence[str]) -> str:
    """The file's last zone is one of many."""
    start = text.index("zone:\n    name: DOMAIN")
    return text[:start] + "".join(text[start:].replace("DOMAIN", domain) + "\n" for domain in domains)


@asynccontextmanager
async def serving(*peers: Peer) -> AsyncIterator[tuple[Peer, ...]]:
    """All of them, started together, ended with the context."""
    try:
        await asyncio.gather(*(peer.start() for peer in peers))
        yield peers
    finally:
        await asyncio.gather(*(peer.stop() for peer in peers))
