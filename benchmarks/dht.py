"""The DHT engine: what its owner writes, what a reader reads of the DHT alone, what nodes that are off cost; hops."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from math import log2
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks.dhthops import measured, simulated
from benchmarks.report import Figure, Report
from regional.engine import NearestQuery
from regional.engines.dht.directory import Directory
from regional.engines.dht.engine import DhtEngine
from regional.engines.dht.item import name_of, packet_salt
from regional.engines.dht.mirror import DhtMirror
from regional.engines.dht.node import DhtNode, Secret
from registry.errors import KindredError
from tests.engines.dht_kind import KEY, Dht
from tests.engines.kinds import HOME, D
from tests.engines.packets import Pair, packet, pair

SEED = 20261122
MANY = 10_000
FEW = 50
SINGLES = 100
BATCH = 1_000
QUESTIONS = 40
ITEMS = 500
LOOKUPS = 200
RINGS = (25, 100, 400)
RATIO = 1.3
MOST_HOPS = 30  # "about 30 hops at most at a billion"


def run(report: Report) -> None:
    """Figures 1 to 4 of the DHT."""
    asyncio.run(_run(report))
    _hops(report)


async def _run(report: Report) -> None:
    with tempfile.TemporaryDirectory() as home:
        kind = Dht(Path(home))
        kind.start()
        try:
            await kind.guest.open()
            await _designs(report, kind)
            await _beside_the_bare_client(report, kind)
            await _measure(report, kind)
            await kind.guest.close()
        finally:
            kind.stop()


def _add(report: Report, name: str, value: float, unit: str, figure: str = "1") -> None:
    report.add(Figure(5, figure, f"dht: {name}", value, unit))


async def _designs(report: Report, kind: Dht) -> None:
    """Items that are named by their contents, beside items that are signed."""
    await kind.owner.open()
    random = np.random.default_rng(SEED)
    values = [random.bytes(900) for _ in range(ITEMS)]
    secret = Secret(KEY)
    for name, put, get in (
        (
            "immutable",
            lambda v: kind.owner.put_immutable(name_of(v), v),
            lambda v: kind.guest.get_immutable(name_of(v)),
        ),
        (
            "mutable",
            lambda v: kind.owner.put_mutable(secret, v[:20], v),
            lambda v: kind.guest.get_mutable(KEY.public, v[:20]),
        ),
    ):
        seconds = await _seconds(lambda put=put: _all(map(put, values)))  # type: ignore[misc]
        _add(report, f"{name} items put", ITEMS / seconds, "items/s")
        seconds = await _seconds(lambda get=get: _all(map(get, values)))  # type: ignore[misc]
        _add(report, f"{name} items got", ITEMS / seconds, "items/s")
    await kind.owner.close()


async def _beside_the_bare_client(report: Report, kind: Dht) -> None:
    """The same packets under the same salts, by libtorrent alone, as many at once; alternately, the best of three."""
    packets = [pair(packet(number)) for number in range(BATCH)]
    secret = Secret(KEY)
    ours, bare = [], []
    for turn in range(3):
        engine = kind.published(f"ours-{turn}")
        await engine.open()
        ours.append(await _seconds(lambda engine=engine: engine.put(packets)))  # type: ignore[misc]
        puts = [(packet_salt(f"bare-{turn}", made.node), data) for made, data in packets]
        bare.append(await _seconds(lambda puts=puts: _all(kind.owner.put_mutable(secret, *each) for each in puts)))  # type: ignore[misc]
        await engine.close()
    ratio = min(ours) / min(bare)
    name = f"dht: deposits of {BATCH:,} through the adapter, directory and disk included"
    rate = BATCH / min(ours)
    report.add(Figure(5, "2", name, rate, "packets/s", "time of the bare client", ratio, f"<= {RATIO}", ratio <= RATIO))


async def _measure(report: Report, kind: Dht) -> None:
    nodes = len(kind.ring.ports)
    engine = kind.published("figures")
    await engine.open()
    memory = _memory(kind)
    singles = [pair(packet(2 * MANY + number)) for number in range(SINGLES)]
    seconds = await _seconds(lambda: _one_by_one(engine, singles))
    _add(report, f"deposits of one, one after another, {nodes} nodes", SINGLES / seconds, "packets/s")
    large = [pair(packet(number)) for number in range(MANY)]
    seconds = await _seconds(lambda: _in_batches(engine, large))
    _add(report, f"deposits of {BATCH:,}", MANY / seconds, "packets/s")
    held = MANY + SINGLES
    value = sum(len(data) for _, data in (*singles, *large)) / held
    _add(report, f"memory of all nodes, for {value:.0f} B of packet", (_memory(kind) - memory) / held, "B/packet")
    disk = sum(path.stat().st_blocks * 512 for path in (kind.home / "figures").rglob("*") if path.is_file())
    _add(report, "disk of the owner", disk / held, "B/packet")
    mirror = kind.mirror("figures")
    _add(report, f"bucket of {held:,}, read cold", 1000 * await _seconds(lambda: mirror.bucket(0)), "ms")
    await mirror.bucket(0)
    _add(report, f"bucket of {held:,}, read again", 1000 * await _seconds(lambda: mirror.bucket(0)), "ms")
    pages = len(mirror._pages) + len(mirror._names)
    _add(report, f"pages of the directory of {held:,} keys", pages, "pages")
    await _ask(report, mirror, "nearest 50, warm")
    assert await engine.put([pair(packet(0, 2))]) == ["accepted"]
    seconds = await _seconds(lambda: mirror.nearest(_question(0)))
    _add(report, "nearest 50, warm, one packet changed", 1000 * seconds, "ms")
    await _cold(report, kind)
    await _off(report, kind, engine, mirror)
    mirror.close()
    await engine.close()


async def _cold(report: Report, kind: Dht) -> None:
    """A reader that knows nothing yet; among packets that lie anywhere, and among packets that lie in groups."""
    small = kind.published("small")
    await small.open()
    await small.put([pair(packet(number)) for number in range(FEW)])
    times = []
    for _ in range(5):
        mirror = kind.mirror("small")
        times.append(1000 * await _seconds(lambda mirror=mirror: mirror.bucket(0)))  # type: ignore[misc]
        mirror.close()
    _add(report, f"bucket of {FEW}, read cold", statistics.median(times), "ms")
    await small.close()
    grouped = kind.published("grouped")
    await grouped.open()
    random = np.random.default_rng(SEED)
    centres = random.normal(size=(200, D))
    places = (centres[np.arange(MANY) % 200] + 0.05 * random.normal(size=(MANY, D))).astype(np.float32)
    await _in_batches(grouped, [pair(packet(number, fingerprint=place)) for number, place in enumerate(places)])
    for name in ("figures", "grouped"):
        times, shares = [], []
        for number in range(5):
            mirror = kind.mirror(name)
            query = _question(number) if name == "figures" else NearestQuery(places[number], 50)
            times.append(1000 * await _seconds(lambda mirror=mirror, query=query: mirror.nearest(query)))  # type: ignore[misc]
            shares.append(mirror.held / mirror.count)
            mirror.close()
        _add(report, f"nearest 50 of each action, cold, {name}", statistics.median(times), "ms")
        _add(report, f"share of the packets read for it, {name}", statistics.mean(shares), "")
    await grouped.close()


async def _off(report: Report, kind: Dht, engine: DhtEngine, mirror: DhtMirror) -> None:
    """30% of the nodes are killed."""
    kind.ring.processes[1].kill()
    _add(
        report,
        "nearest 50, 30% of the nodes off, first",
        1000 * await _seconds(lambda: mirror.nearest(_question(1))),
        "ms",
    )
    await _ask(report, mirror, "nearest 50, warm, 30% of the nodes off")
    guest = DhtNode(kind.ring.servers, guest=True)
    await guest.open()
    directory = Directory(guest, KEY.public, "figures")
    cold = DhtMirror(directory, HOME, D, engine._clock)
    unread = 0
    started = perf_counter()
    try:
        unread = engine.count - len(await cold.bucket(0))
    except KindredError as error:
        print(error.detail)
        unread = engine.count
    _add(report, "bucket read cold, 30% of the nodes off", 1000 * (perf_counter() - started), "ms")
    name = "dht: packets that a reader misses, 30% of the nodes off"
    report.add(Figure(5, "1", name, unread, "packets", bar="= 0", holds=unread == 0))
    seconds = await _seconds(lambda: engine.put([pair(packet(1, 2))]))
    _add(report, "longest wait of a deposit, 30% of the nodes off", seconds, "s")
    lost = 0
    for number in range(2, MANY):
        lost += await engine.get(packet(number).node) is None
    name = "dht: acknowledged packets lost"
    report.add(Figure(5, "1", name, lost, "packets", bar="= 0", holds=lost == 0))
    cold.close()
    await guest.close()


def _hops(report: Report) -> None:
    for nodes in RINGS:
        with tempfile.TemporaryDirectory() as home:
            hops, asked = measured(Path(home), nodes, LOOKUPS)
        _add(report, f"hops, {nodes} nodes, measured, mean", statistics.mean(hops), "hops", "4")
        _add(report, f"hops, {nodes} nodes, measured, most", max(hops), "hops", "4")
        _add(report, f"hops, {nodes} nodes, simulated, mean", statistics.mean(simulated(nodes, LOOKUPS)), "hops", "4")
        _add(report, f"log2 of {nodes}", log2(nodes), "", "4")
        _add(report, f"nodes asked in a lookup, {nodes} nodes", asked, "nodes", "4")
    for n in (10**3, 10**4, 10**5, 10**6, 10**7, 10**8, 10**9):
        hops = simulated(n, LOOKUPS)
        _add(report, f"hops, {n:,} nodes, simulated, mean", statistics.mean(hops), "hops", "4")
        most, bar = max(hops), n == 10**9
        holds = most <= MOST_HOPS if bar else None
        name = f"dht: hops, {n:,} nodes, simulated, most"
        report.add(
            Figure(5, "4", name, most, "hops", "log2 N", most / log2(n), f"<= {MOST_HOPS}" if bar else None, holds)
        )


async def _ask(report: Report, mirror: DhtMirror, name: str) -> None:
    queries = [_question(number) for number in range(QUESTIONS)]
    times = [1000 * await _seconds(lambda query=query: mirror.nearest(query)) for query in queries]  # type: ignore[misc]
    _add(report, f"{name}, p50", statistics.median(times), "ms")
    _add(report, f"{name}, p99", statistics.quantiles(times, n=100)[98], "ms")


def _question(number: int) -> NearestQuery:
    point = np.random.default_rng([SEED, number]).normal(size=D).astype(np.float32)
    return NearestQuery(point, 50)


async def _seconds(work: Callable[[], Awaitable[object]]) -> float:
    started = perf_counter()
    await work()
    return perf_counter() - started


async def _all(work) -> None:  # type: ignore[no-untyped-def]
    await asyncio.gather(*work)


async def _one_by_one(engine: DhtEngine, packets: Sequence[Pair]) -> None:
    for each in packets:
        await engine.put([each])


async def _in_batches(engine: DhtEngine, packets: Sequence[Pair]) -> None:
    for start in range(0, len(packets), BATCH):
        await engine.put(packets[start : start + BATCH])


def _memory(kind: Dht) -> int:
    """Bytes that all nodes of the ring hold."""
    lines = [Path(f"/proc/{each.pid}/status").read_text() for each in kind.ring.processes]
    return sum(1024 * int(text.split("VmRSS:")[1].split()[0]) for text in lines)
