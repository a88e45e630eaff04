"""Knot, NSD and BIND as secondaries of a real registry, from the configurations that are shipped."""

from __future__ import annotations

import base64
import re
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.peers.peers import Peer, ask, serving, until
from tests.peers.primary import ORIGIN, RunningPrimary, running_primary

CRASH = f"crash.vehicles.{ORIGIN}"
DRIVES = f"drives.{ORIGIN}"
SHIPPED = {"knot": "knot-secondary.conf", "nsd": "nsd-secondary.conf", "bind": "bind-secondary.conf"}

REFUSALS = {"knot": "not signed", "nsd": "BADSIG", "bind": "BADSIG"}


@dataclass(frozen=True)
class Served:
    """A registry and its secondaries."""

    primary: RunningPrimary
    peers: tuple[Peer, ...]

    def log_since(self, position: int) -> str:
        return self.primary.log[position:]


def peer(name: str, primary: RunningPrimary, home: Path, secret: str | None = None) -> Peer:
    words = {
        "SECRET": secret or primary.secret,
        "PRIMARY": f"127.0.0.1@{primary.port}",
        "PRIMARY-HOST": "127.0.0.1",
        "PRIMARY-PORT": str(primary.port),
        "ORIGIN": ORIGIN.removesuffix("."),
        "DOMAINS": " ".join(primary.domains),
    }
    return Peer(name, SHIPPED[name], home / name, words)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    # So that a change can have come by NOTIFY only.
    async with running_primary(tmp_path / "registry", soa={"refresh": "1h", "retry": "1h", "expire": "1d"}) as primary:
        primary.write()
        peers = tuple(peer(name, primary, tmp_path) for name in SHIPPED)
        primary.secondaries = {each.name: each.port for each in peers}
        await primary.start()
        async with serving(*peers):
            yield Served(primary, peers)


async def test_a_changed_coverage_is_served_by_all_three_by_difference(served: Served) -> None:
    first = await served.primary.cover("north", 40)
    for each in served.peers:
        await each.has(CRASH, first)
        await each.has(DRIVES, 1)
    mark = len(served.primary.log)
    second = await served.primary.cover("north", 41)
    assert second > first
    for each in served.peers:
        serial = await each.has(CRASH, second)
        text = await each.ask(CRASH, "TXT")
        assert text is not None
        generation = re.search(r'"gen=(\d+)"', str(text.answer[0]))[1]  # type: ignore[index]
        cell = await each.ask(f"g{generation}.{CRASH}", "SVCB", tcp=True)
        assert cell is not None
        assert cell.answer, f"{each.name} {serial} {cell}"
    log = served.log_since(mark)
    assert len(re.findall(rf" IXFR of {CRASH}: ", log)) >= 3
    assert "AXFR" not in log


@pytest.mark.parametrize("name", list(SHIPPED))
async def test_a_wrong_key_is_refused_by_name(tmp_path: Path, name: str) -> None:
    async with running_primary(tmp_path / "registry") as primary:
        primary.write()
        wrong = peer(name, primary, tmp_path, base64.b64encode(b"wrong, but long enough to be one").decode())
        primary.secondaries = {name: wrong.port}
        await primary.start()
        async with serving(wrong):

            async def said() -> bool:
                return "a question is refused: BADSIG" in primary.log

            await until(said, lambda: primary.log)
            assert await wrong.serial(CRASH) is None
            assert " AXFR of " not in primary.log

            async def warned() -> str | None:
                return (await primary.warnings()).get(f"{CRASH} at {name}")

            assert REFUSALS[name] in await until(warned, lambda: primary.log)


async def test_a_lost_notify_costs_no_more_than_the_refresh(tmp_path: Path) -> None:
    async with running_primary(tmp_path / "registry", soa={"refresh": "1s", "retry": "1s", "expire": "1d"}) as primary:
        primary.write()
        peers = tuple(peer(name, primary, tmp_path) for name in SHIPPED)
        await primary.start()  # and nobody is told of anything
        async with serving(*peers):
            for each in peers:
                await each.has(CRASH, 1)
            serial = await primary.cover("north")
            for each in peers:
                await each.has(CRASH, serial)
        assert "NOTIFY" not in primary.log


async def test_without_the_primary_they_go_on_and_the_age_shows(served: Served) -> None:
    serial = await served.primary.cover("north")
    held = {each.name: await each.has(CRASH, serial) for each in served.peers}
    await served.primary.stop(signal.SIGKILL)
    for each in served.peers:
        answer = await each.ask(CRASH, "TXT")
        assert answer is not None
        assert answer.answer
        shown = await each.serial(CRASH)
        assert shown is not None
        assert held[each.name] <= shown <= held[each.name] + 30  # a time that stands still: the age is what it lacks
    assert await ask(served.primary.port, CRASH, "SOA") is None
    # Back again, it goes on where it was, and so do they.
    mark = len(served.primary.log)
    await served.primary.start()
    later = await served.primary.cover("north", 7)
    assert later > serial
    for each in served.peers:
        await each.has(CRASH, later)
    assert f" IXFR of {CRASH}" in served.log_since(mark)
    assert not re.search(rf"AXFR[^:]* of {CRASH}", served.log_since(mark))


async def test_a_new_domain_appears_by_itself_where_the_catalog_is_read(tmp_path: Path) -> None:
    async with running_primary(tmp_path / "registry") as primary:
        primary.domains = ["crash.vehicles"]
        primary.write()
        peers = tuple(peer(name, primary, tmp_path) for name in ("knot", "bind"))
        primary.secondaries = {each.name: each.port for each in peers}
        await primary.start()
        async with serving(*peers):
            for each in peers:
                await each.has(CRASH, 1)
                assert await each.serial(DRIVES) is None
            await primary.stop()
            primary.domains = ["crash.vehicles", "drives"]
            await primary.start()
            for each in peers:
                await each.has(DRIVES, 1)
            await primary.stop()
            primary.domains = ["drives"]
            await primary.start()

            async def gone() -> bool:
                return all([await each.serial(CRASH) is None for each in peers])

            await until(gone)


async def test_a_secondary_that_is_not_there_is_named(served: Served) -> None:
    knot = served.peers[0]
    first = await served.primary.cover("north")
    for each in served.peers:
        await each.has(CRASH, first)
    assert await served.primary.warnings() == {}
    await knot.stop()
    await served.primary.cover("north", 6)

    async def warned() -> str | None:
        return (await served.primary.warnings()).get(f"{CRASH} at knot")

    assert await until(warned) == "nobody listens there"
    assert not {name for name in await served.primary.warnings() if not name.endswith(" at knot")}
    await knot.start()
    later = await served.primary.cover("north", 7)
    await knot.has(CRASH, later)

    async def well() -> bool:
        return not await served.primary.warnings()

    await until(well)
