"""An engine that moves while it serves: nothing lost, nothing twice, whatever ends it and wherever."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from regional.engine import NearestQuery
from regional.engines.embedded.writer import Writer
from regional.shares.moving import MovableEngine
from registry.errors import Conflict, Unavailable
from tests.regional.rooms import Rooms, encoded, packet

OLD, NEW = {"at": "old"}, {"at": "new"}


@pytest_asyncio.fixture
async def rooms(tmp_path: Path) -> AsyncIterator[Rooms]:
    writer = Writer()
    yield Rooms(tmp_path, writer)
    writer.close()


async def held(engine: MovableEngine) -> dict[int, int]:
    """Nodes with their seqs."""
    result = await engine.nearest(NearestQuery(packet(0).fingerprint, 10_000, "all"))
    found = [packet(0).from_cbor(data) for data in result.packets]
    assert len({each.node for each in found}) == len(found)
    return {int.from_bytes(each.node, "big"): each.seq for each in found}


async def at_old(rooms: Rooms, n: int) -> MovableEngine:
    engine = MovableEngine(OLD, rooms)
    await engine.open()
    await engine.put(encoded(*map(packet, range(n))))
    return engine


async def finished(engine: MovableEngine) -> None:
    assert engine._task is not None
    await engine._task


def test_killed_at_every_step(tmp_path: Path) -> None:
    """Kill -9 after each write of the mover: started anew it goes on, and all that was acknowledged is there once."""
    program = Path(__file__).parent / "mover.py"
    done = subprocess.run([sys.executable, program, tmp_path], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 10


async def test_there_and_back(rooms: Rooms) -> None:
    engine = await at_old(rooms, 700)
    await engine.keep_note("coverage", b"{}")
    withdrawn = packet(0).from_cbor(packet(5, 3).to_cbor())
    for to in (NEW, OLD):
        await engine.move(to)
        assert engine.state()["to"] == to["at"]
        await engine.move(to)  # the command once more
        number = 0
        while engine.busy:
            number += 1
            await engine.put(encoded(packet(number % 700, 10 + number)))
            assert set(await held(engine)) == set(range(700))
        assert engine.state() | {"copied": 0} == {
            "at": to["at"], "to": None, "clearing": False, "copied": 0, "packets": 700, "trouble": None
        }  # fmt: skip
        assert await engine.note("coverage") == b"{}"
        with pytest.raises(Conflict, match="already"):
            await engine.move(to)
    assert await engine.put(encoded(withdrawn)) in (["stale"], ["accepted"])
    await engine.close()


async def test_a_move_is_given_up(rooms: Rooms) -> None:
    engine = await at_old(rooms, 5000)
    await engine.move(NEW)
    with pytest.raises(Conflict, match="to new is under way"):
        await engine.move({"at": "elsewhere"})
    await engine.move(OLD)
    await finished(engine)
    assert engine.place == OLD
    assert len(await held(engine)) == 5000
    left = rooms.engine(NEW)
    await left.open()
    assert left.count == 0
    await left.close()
    await engine.move(NEW)
    await finished(engine)
    assert engine.place == NEW
    assert len(await held(engine)) == 5000
    await engine.close()


async def test_what_keeps_packets_is_no_place_to_move_to(rooms: Rooms) -> None:
    other = rooms.engine(NEW)
    await other.open()
    await other.put(encoded(packet(1)))
    await other.close()
    engine = await at_old(rooms, 3)
    with pytest.raises(Conflict, match="keeps 1 packets already"):
        await engine.move(NEW)
    assert engine.place == OLD
    assert not engine.busy
    await engine.put(encoded(packet(9)))
    await engine.close()
    engine = MovableEngine(OLD, rooms)
    await engine.open()
    assert (engine.place, engine.busy) == (OLD, False)
    await engine.close()


class Slow(Rooms):
    """To ask for a single packet takes a search, as it does on some servers."""

    searches = 0

    def engine(self, place):  # type: ignore[no-untyped-def]
        engine = super().engine(place)
        get = engine.get

        async def searched(node):  # type: ignore[no-untyped-def]
            self.searches += 1
            return await get(node)

        engine.get = searched
        return engine


async def test_nothing_is_searched_for_each_packet(tmp_path: Path) -> None:
    writer = Writer()
    places = Slow(tmp_path, writer)
    engine = await at_old(places, 600)
    await engine.move(NEW)
    await finished(engine)
    assert places.searches == 0
    left = places.engine(OLD)
    await left.open()
    assert left.count == 0
    await left.close()
    await engine.close()
    writer.close()


class Weak(Rooms):
    """The new place fails again and again while it is written."""

    failures = 0

    def engine(self, place):  # type: ignore[no-untyped-def]
        engine = super().engine(place)
        if place == NEW:
            put = engine.put

            async def weak(packets):  # type: ignore[no-untyped-def]
                self.failures += 1
                if self.failures in (1, 3):
                    raise Unavailable("the server is away")
                return await put(packets)

            engine.put = weak
        return engine


async def test_a_new_place_that_fails_holds_up_the_move_alone(tmp_path: Path) -> None:
    writer = Writer()
    engine = await at_old(Weak(tmp_path, writer), 600)
    await engine.move(NEW)
    troubles = set()
    while engine.busy:
        await engine.put(encoded(packet(1, 2)))
        troubles.add(engine.state()["trouble"])
        assert len(await held(engine)) == 600
    assert "the server is away" in troubles
    assert engine.place == NEW
    assert (await held(engine))[1] == 2
    await engine.close()
    writer.close()
