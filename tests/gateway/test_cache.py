"""The cache: time to live, failures, one lookup for many, bounded size."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from gateway.cache import ENTRY_BYTES, Cache, Kept
from gateway.resolution import Cell
from gateway.weight import weight
from registry.cell import CellRecord, Naming
from registry.clock import ManualClock
from registry.errors import LookupFailed
from registry.record import decode_cell, encode_cell
from registry.region import Region


async def test_a_value_is_kept_for_its_time_to_live() -> None:
    clock, asked = ManualClock(), []

    async def look_up() -> tuple[object, float, int]:
        asked.append(clock.monotonic())
        return "cell", 60.0, 7

    cache = Cache(clock)
    assert await cache.get("key", look_up, 1.0) == Kept("cell", 7)
    clock.advance(59.9)
    assert cache.peek("key") == Kept("cell", 7)
    await cache.get("key", look_up, 1.0)
    assert len(asked) == 1
    clock.advance(0.1)
    assert cache.peek("key") is None
    await cache.get("key", look_up, 1.0)
    assert len(asked) == 2


async def test_a_jump_of_the_wall_clock_changes_nothing() -> None:
    clock = ManualClock()

    async def look_up() -> tuple[object, float, int]:
        return "cell", 60.0, 7

    cache = Cache(clock)
    await cache.get("key", look_up, 1.0)
    clock.jump(3600.0)
    assert cache.peek("key") is not None
    clock.jump(-7200.0)
    clock.advance(60.0)
    assert cache.peek("key") is None


@pytest.mark.parametrize(("where", "kept_s"), [({}, 1.0), ({"ttl_s": 10.0}, 10.0)])
async def test_a_failure_is_kept_briefly(where: dict[str, float], kept_s: float) -> None:
    clock, asked = ManualClock(), []

    async def look_up() -> tuple[object, float, int]:
        asked.append(1)
        raise LookupFailed("NXDOMAIN", **where)

    cache = Cache(clock)
    for _ in range(3):
        with pytest.raises(LookupFailed, match="NXDOMAIN"):
            await cache.get("key", look_up, 1.0)
    assert len(asked) == 1
    clock.advance(kept_s)
    with pytest.raises(LookupFailed):
        await cache.get("key", look_up, 1.0)
    assert len(asked) == 2


async def test_many_askers_share_one_lookup() -> None:
    asked, go = [], asyncio.Event()

    async def look_up() -> tuple[object, float, int]:
        asked.append(1)
        await go.wait()
        return "cell", 60.0, 7

    cache = Cache(ManualClock())
    askers = [asyncio.create_task(cache.get("key", look_up, 5.0)) for _ in range(50)]
    await asyncio.sleep(0)
    go.set()
    assert {kept.value for kept in await asyncio.gather(*askers)} == {"cell"}
    assert len(asked) == 1


async def test_one_impatient_asker_does_not_end_the_lookup_for_the_others() -> None:
    go = asyncio.Event()

    async def look_up() -> tuple[object, float, int]:
        await go.wait()
        return "cell", 60.0, 7

    cache = Cache(ManualClock())
    patient = asyncio.create_task(cache.get("key", look_up, 5.0))
    await asyncio.sleep(0)
    with pytest.raises(LookupFailed, match="no answer within 0 ms"):
        await cache.get("key", look_up, 0.0)
    go.set()
    assert (await patient).value == "cell"


def giving(value: object, ttl_s: float = 60.0) -> Callable[[], Awaitable[tuple[object, float, int]]]:
    async def look_up() -> tuple[object, float, int]:
        return value, ttl_s, 7

    return look_up


async def test_memory_is_bounded_and_the_least_recently_used_goes_first() -> None:
    cache = Cache(ManualClock(), limit=3 * (ENTRY_BYTES + 1100))
    for key in ("a", "b", "c"):
        await cache.get(key, giving(bytes(1000)), 1.0)
    cache.peek("a")
    await cache.get("d", giving(bytes(1000)), 1.0)
    assert len(cache) == 3
    assert cache.peek("a") is not None
    assert cache.peek("b") is None
    await cache.get("e", giving(bytes(2000)), 1.0)
    assert cache.peek("a") is not None
    assert (cache.peek("c"), cache.peek("d")) == (None, None)
    assert cache.bytes <= 3 * (ENTRY_BYTES + 1100)
    assert (await cache.get("f", giving(bytes(100_000)), 1.0)).value == bytes(100_000)
    assert (len(cache), cache.bytes) == (0, 0)


async def test_what_is_of_no_use_any_more_is_dropped() -> None:
    """Each generation has names of its own; those of the last one are never asked for again."""
    clock = ManualClock()
    cache = Cache(clock)
    for generation in range(20):
        for cell in range(50):
            await cache.get((generation, cell), giving(bytes(1000)), 1.0)
        await cache.get("apex", giving("apex", 10.0), 1.0)
        clock.advance(45.0)
    assert len(cache) <= 2 * 51
    assert cache.bytes < 110 * (ENTRY_BYTES + 1100)
    assert cache.peek((19, 0)) is not None
    assert len(cache._ends) <= 2 * len(cache) + 64


async def test_books_are_kept_for_what_is_held_only() -> None:
    cache = Cache(ManualClock(), limit=10 * (ENTRY_BYTES + 1100))
    for number in range(1000):
        await cache.get(number, giving(bytes(1000), 86_400.0), 1.0)
        cache.drop(number - 1)
    assert len(cache._ends) <= 2 * len(cache) + 64
    assert cache.bytes == sum(entry.bytes for entry in cache._entries.values())


@pytest.mark.parametrize("d", [4, 64])
def test_a_cell_weighs_what_it_takes(d: int) -> None:
    naming, actions = Naming("crash.vehicles", "kindred.internal."), ("no", "yes")

    def rdatas(number: int) -> tuple[bytes, ...]:
        counts, centre, var = {"no": 3, "yes": 9}, np.arange(d) / 7 + number, np.full(d, 0.1)
        records = [
            CellRecord(Region(f"{number}-{i}", counts, centre, 1.0, centre - 1, centre + 1, var, 0.1), network="n")
            for i in range(16)
        ]
        return encode_cell(records, naming, 1, actions)

    wire = [rdatas(number) for number in range(50)]
    cells = [Cell(decode_cell(wire[0], naming, 1, actions, d), d)]
    gc.collect()
    tracemalloc.start()
    cells = [Cell(decode_cell(each, naming, 1, actions, d), d) for each in wire]
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert sum(map(weight, cells)) == pytest.approx(taken, rel=0.15)


class Upstream:
    """Says what it is told to: a value, or a failure."""

    def __init__(self) -> None:
        self.asked = 0
        self.failure: LookupFailed | None = None
        self.go: asyncio.Event | None = None

    async def __call__(self) -> tuple[object, float, int]:
        self.asked += 1
        if self.go is not None:
            await self.go.wait()
        if self.failure is not None:
            raise self.failure
        return f"cell {self.asked}", 60.0, 7


async def test_where_nobody_answers_what_was_known_serves_on_marked_stale() -> None:
    clock, upstream = ManualClock(), Upstream()
    cache = Cache(clock)
    await cache.get("key", upstream, 1.0)
    clock.advance(60.0)
    upstream.failure = LookupFailed("unreachable", rcode="UNREACHABLE")
    assert await cache.get("key", upstream, 1.0) == Kept("cell 1", 7, stale=True)
    assert cache.peek("key") == Kept("cell 1", 7, stale=True)
    assert await cache.get("key", upstream, 1.0) == Kept("cell 1", 7, stale=True)
    assert upstream.asked == 2
    clock.advance(1.0)
    upstream.failure = None
    assert await cache.get("key", upstream, 1.0) == Kept("cell 3", 7)


async def test_and_not_for_ever() -> None:
    clock, upstream = ManualClock(), Upstream()
    cache = Cache(clock)
    await cache.get("key", upstream, 1.0)
    upstream.failure = LookupFailed("unreachable", rcode="UNREACHABLE")
    for _ in range(29):
        clock.advance(60.0 if clock.monotonic() < 60.0 else 1.0)
        assert (await cache.get("key", upstream, 1.0)).stale
    clock.advance(2.0)
    with pytest.raises(LookupFailed, match="unreachable"):
        await cache.get("key", upstream, 1.0)


async def test_no_said_with_authority_outdoes_what_is_stale() -> None:
    clock, upstream = ManualClock(), Upstream()
    cache = Cache(clock)
    await cache.get("key", upstream, 1.0)
    clock.advance(60.0)
    upstream.failure = LookupFailed("NXDOMAIN", rcode="NXDOMAIN", ttl_s=10.0)
    with pytest.raises(LookupFailed, match="NXDOMAIN"):
        await cache.get("key", upstream, 1.0)


async def test_what_is_stale_is_not_kept_back_for_a_lookup_that_hangs() -> None:
    clock, upstream = ManualClock(), Upstream()
    cache = Cache(clock)
    await cache.get("key", upstream, 1.0)
    clock.advance(60.0)
    upstream.go = asyncio.Event()
    async with asyncio.timeout(5):
        assert (await cache.get("key", upstream, 60.0)).stale
    upstream.go.set()
    await cache.close()
