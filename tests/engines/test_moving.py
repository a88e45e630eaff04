"""A network that goes from engine to engine, through all of them, while it is deposited with and asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from regional.engine import Engine
from regional.engines.address import EngineAddress
from regional.engines.embedded.engine import EmbeddedEngine
from regional.engines.embedded.writer import Writer
from regional.engines.opening import engine_at
from regional.packets.packet import Packet
from regional.shares.moving import MovableEngine
from tests.engines.conftest import started
from tests.engines.kinds import HOME, SERVED, D, Kind, Served
from tests.engines.packets import brute_force, fill, many, packet, pair, questions, tombstone

N = 60
EMBEDDED = "embedded"


class Everywhere:
    """{at: ADDRESS}, or a directory."""

    def __init__(self, home: Path, writer: Writer) -> None:
        self._home = home
        self._writer = writer

    def engine(self, place: Mapping[str, Any]) -> Engine:
        if place["at"] == EMBEDDED:
            return EmbeddedEngine(HOME.network, D, self._home, self._writer)
        return engine_at(EngineAddress.parse(place["at"], HOME.network), HOME, D)

    def name(self, place: Mapping[str, Any]) -> str:
        return str(place["at"])


async def right(engine: MovableEngine, current: Mapping[bytes, Packet]) -> None:
    for query in questions(2, 20):
        result = await engine.nearest(query)
        wanted = brute_force([each for each in current.values() if not each.tombstone], query)
        assert (result.packets, result.distances2.tolist()) == wanted


async def test_through_every_engine(
    tmp_path: Path,
    name: str,
    running: dict[type[Kind], Kind],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Each answer on the way is right, nothing is left behind, and who is withdrawn stays so."""
    kinds = [started(which, running, tmp_path_factory) for which in SERVED]
    ways = [{"at": each.servers.url(name)} for each in kinds if isinstance(each, Served)]
    writer = Writer()
    places = Everywhere(tmp_path / "store", writer)
    engine = MovableEngine({"at": EMBEDDED}, places)
    await engine.open()
    current = {each.node: each for each in many(N)}
    await fill(engine, current.values())
    gone = tombstone(1, 2)
    assert await engine.put([pair(gone)]) == ["accepted"]
    current[gone.node] = gone
    await engine.keep_note("coverage", b"{}")
    seq = 2
    for to in [*ways, {"at": EMBEDDED}]:
        left = engine.place
        await engine.move(to)
        number = 0
        while engine.busy or number < 3:
            number += 1
            seq += 1
            made = packet(N + seq if number % 3 else 2 + number % (N - 2), seq)
            assert await engine.put([pair(made)]) == ["accepted"]
            current[made.node] = made
            await right(engine, current)
        assert (engine.place, engine.trouble) == (to, None)
        assert engine.count == len(current) - 1
        assert await engine.put([pair(packet(1, 1))]) == ["stale"]
        assert await engine.get(gone.node) == gone.to_cbor()
        assert await engine.note("coverage") == b"{}"
        old = places.engine(left)
        await old.open()
        assert (old.count, await old.get(made.node)) == (0, None)
        await old.close()
    await engine.close()
    writer.close()
