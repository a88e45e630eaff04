"""The cache: time to live, failures, one lookup for many, bounded size."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from gateway.fetching.cache import ENTRY_BYTES, MAX_FLIGHTS, MAX_PREFETCHES, Cache, Kept
from gateway.fetching.weight import weight
from gateway.planning.cell import Cell
from registry.clock import ManualClock
from registry.errors import LookupFailed
from registry.geometry.cell import CellRecord, Naming
from registry.geometry.region import Region
from registry.resolving.lookup import Looked
from registry.zones.record import decode_cell, encode_cell


async def test_a_value_is_kept_for_its_time_to_live() -> None:
    clock, asked = ManualClock(), []

    async def look_up() -> Looked[object]:
        asked.append(clock.monotonic())
        return Looked("cell", 60.0, 7)

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

    async def look_up() -> Looked[object]:
        return Looked("cell", 60.0, 7)

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

    async def look_up() -> Looked[object]:
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

    async def look_up() -> Looked[object]:
        asked.append(1)
        await go.wait()
        return Looked("cell", 60.0, 7)

    cache = Cache(ManualClock())
    askers = [asyncio.create_task(cache.get("key", look_up, 5.0)) for _ in range(50)]
    await asyncio.sleep(0)
    go.set()
    assert {kept.value for kept in await asyncio.gather(*askers)} == {"cell"}
    assert len(asked) == 1


async def test_one_impatient_asker_does_not_end_the_lookup_for_the_others() -> None:
    go = asyncio.Event()

    async def look_up() -> Looked[object]:
        await go.wait()
        return Looked("cell", 60.0, 7)

    cache = Cache(ManualClock())
    patient = asyncio.create_task(cache.get("key", look_up, 5.0))
    await asyncio.sleep(0)
    with pytest.raises(LookupFailed, match="no answer within 0 ms"):
        await cache.get("key", look_up, 0.0)
    go.set()
    assert (await patient).value == "cell"


def giving(value: object, ttl_s: float = 60.0) -> Callable[[], Awaitable[Looked[object]]]:
    async def look_up() -> Looked[object]:
        return Looked(value, ttl_s, 7)

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

    async def __call__(self) -> Looked[object]:
        self.asked += 1
        if self.go is not None:
            await self.go.wait()
        if self.failure is not None:
            raise self.failure
        return Looked(f"cell {self.asked}", 60.0, 7)


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


async def test_failures_that_recur_are_remembered_longer() -> None:
    """RFC 9520 section 3.2: one that cannot be helped costs ever less, and still one question every few seconds."""
    clock, upstream = ManualClock(), Upstream()
    upstream.failure = LookupFailed("unreachable", rcode="UNREACHABLE")
    cache = Cache(clock)
    times = []
    while len(times) < 6:
        before = upstream.asked
        with pytest.raises(LookupFailed, match="unreachable"):
            await cache.get("key", upstream, 1.0)
        if upstream.asked > before:
            times.append(clock.monotonic())
        clock.advance(0.5)
    assert [later - earlier for earlier, later in pairwise(times)] == [1.0, 2.0, 4.0, 8.0, 8.0]
    upstream.failure = None
    clock.advance(8.0)
    await cache.get("key", upstream, 1.0)
    clock.advance(60.0)
    upstream.failure = LookupFailed("unreachable", rcode="UNREACHABLE")
    asked = upstream.asked
    await cache.get("key", upstream, 1.0)
    clock.advance(1.0)
    await cache.get("key", upstream, 1.0)
    assert upstream.asked == asked + 2  # a success in between, and the count begins anew


async def test_what_is_hot_is_looked_up_again_before_its_time_is_over() -> None:
    clock, upstream = ManualClock(), Upstream()
    cache = Cache(clock)
    await cache.get("hot", upstream, 1.0)
    await cache.get("cold", upstream, 1.0)
    for _ in range(3):
        cache.peek("hot")
    clock.advance(53.9)
    assert (cache.peek("hot"), upstream.asked) == (Kept("cell 1", 7), 2)
    clock.advance(0.1)
    assert cache.peek("hot") == Kept("cell 1", 7)  # at once, and the next one is on its way
    cache.peek("cold")
    await asyncio.sleep(0)
    assert upstream.asked == 3
    clock.advance(6.0)
    assert cache.peek("hot") == Kept("cell 3", 7)
    assert cache.peek("cold") is None
    await cache.close()


async def test_a_renewal_that_fails_takes_nothing_away() -> None:
    clock, upstream = ManualClock(), Upstream()
    cache = Cache(clock)
    await cache.get("hot", upstream, 1.0)
    upstream.failure = LookupFailed("unreachable", rcode="UNREACHABLE")
    clock.advance(55.0)
    for _ in range(5):
        assert cache.peek("hot") == Kept("cell 1", 7)
        await asyncio.sleep(0)
    assert upstream.asked == 2
    clock.advance(5.0)
    assert cache.peek("hot") is None
    assert (await cache.get("hot", upstream, 1.0)).stale


async def test_renewals_are_bounded() -> None:
    clock, upstream = ManualClock(), Upstream()
    cache = Cache(clock)
    for number in range(3 * MAX_PREFETCHES):
        await cache.get(number, upstream, 1.0)
    asked, upstream.go = upstream.asked, asyncio.Event()
    clock.advance(55.0)
    for number in [*range(3 * MAX_PREFETCHES)] * 2:
        assert cache.peek(number) is not None
    await asyncio.sleep(0)
    assert upstream.asked == asked + MAX_PREFETCHES
    await cache.close()


async def test_a_carrier_that_is_stale_makes_stale() -> None:
    clock, asked = ManualClock(), []

    async def look_up() -> Looked[object]:
        asked.append(1)
        return Looked("cell", 0.0, 7, stale=True)

    cache = Cache(clock)
    for _ in range(2):
        assert await cache.get("key", look_up, 1.0) == Kept("cell", 7, stale=True)
    assert len(asked) == 2


async def test_stale_for_no_longer_than_is_allowed() -> None:
    clock, upstream = ManualClock(), Upstream()
    cache = Cache(clock, stale_s=86_400.0)
    await cache.get("key", upstream, 1.0)
    upstream.failure = LookupFailed("unreachable", rcode="UNREACHABLE")
    clock.advance(60.0 + 86_399.0)
    assert (await cache.get("key", upstream, 1.0)).stale
    clock.advance(1.0)
    with pytest.raises(LookupFailed):
        await cache.get("key", upstream, 1.0)
    never = Cache(clock, stale_s=0.0)
    upstream.failure = None
    await never.get("key", upstream, 1.0)
    clock.advance(60.0)
    upstream.failure = LookupFailed("unreachable", rcode="UNREACHABLE")
    with pytest.raises(LookupFailed):
        await never.get("key", upstream, 1.0)


async def test_1e5_random_names_take_bounded_memory() -> None:
    limit = 4 * 1024**2
    where = [{"rcode": "NXDOMAIN", "ttl_s": 10.0}, {"rcode": "TIMEOUT"}]

    async def look_up() -> Looked[object]:
        raise LookupFailed("no", **where[number % 2])

    cache = Cache(ManualClock(), limit=limit)
    await cache.get("hot", giving("hot"), 1.0)
    refused = before = 0
    for number in range(100_000):
        if number == 10_000:  # by then it is full
            gc.collect()
            before = resident()
        try:
            await cache.get(("cell", number), look_up, 1.0)
        except LookupFailed:
            refused += 1
        if number % 500 == 0:
            assert cache.peek("hot") is not None  # what is used stays
            assert cache.bytes <= limit
    assert refused == 100_000
    assert len(cache) <= limit // ENTRY_BYTES
    gc.collect()
    assert resident() - before < 8 * 1024**2


def resident() -> int:
    """Octets of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def test_lookups_under_way_are_bounded() -> None:
    upstream = Upstream()
    upstream.go = asyncio.Event()
    cache = Cache(ManualClock())
    asking = [asyncio.ensure_future(cache.get(number, upstream, 60.0)) for number in range(5000)]
    await asyncio.sleep(0.0)
    done = [each for each in asking if each.done()]
    assert len(done) == 5000 - MAX_FLIGHTS
    assert {each.exception().where["rcode"] for each in done} == {"BUSY"}  # type: ignore[union-attr]
    await asyncio.sleep(0)
    assert upstream.asked == MAX_FLIGHTS
    upstream.go.set()
    kept = await asyncio.gather(*(each for each in asking if each not in done))
    assert len(kept) == MAX_FLIGHTS


async def test_one_asker_who_is_cancelled_does_not_fail_the_others() -> None:
    upstream = Upstream()
    upstream.go = asyncio.Event()
    cache = Cache(ManualClock())
    asking = [asyncio.ensure_future(cache.get("key", upstream, 60.0)) for _ in range(10)]
    await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.sleep(0)
    upstream.go.set()
    assert {kept.value for kept in await asyncio.gather(*asking[1:])} == {"cell 1"}
    assert asking[0].cancelled()
