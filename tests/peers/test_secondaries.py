"""Knot, NSD and BIND as secondaries of a real registry, from the configurations that are shipped."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.peers.peers import Peer, serving
from tests.peers.primary import ORIGIN, RunningPrimary, running_primary

CRASH = f"crash.vehicles.{ORIGIN}"
DRIVES = f"drives.{ORIGIN}"
SHIPPED = {"knot": "knot-secondary.conf", "nsd": "nsd-secondary.conf", "bind": "bind-secondary.conf"}


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
    async with running_primary(tmp_path / "registry") as primary:
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
