"""The embedded engine beside bare faiss and numpy, and its deposits beside one writer's."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, process_time, thread_time

import faiss
import lmdb
import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from benchmarks.report import ROOT, Figure, Report
from regional.engine import NearestQuery
from regional.engines.embedded.engine import EmbeddedEngine
from regional.engines.embedded.writer import Writer
from regional.engines.exact.coarse import Coarse
from regional.engines.exact.scan import Entry, Scan
from regional.packets.packet import Packet, identity_digest
from registry.geometry.region import squared_distances

SEED = 20261122
NETWORK = "bench"
D = 32
ACTIONS = ("a", "b", "c", "d")
SHARES = (0.4, 0.3, 0.2, 0.1)
PAYLOAD = 512  # bytes of a packet
QUESTIONS = 20
ROUNDS = 3  # timed after one that is not, so that each contender finds its own data in the cache
DEPOSIT = 5000  # packets of one bulk deposit
AT_ONCE = 4  # bulk deposits under way
WRITERS = 64
DELAY_US = 2000

Points = npt.NDArray[np.float32]


def run(report: Report) -> None:
    """Figure 5."""
    faiss.omp_set_num_threads(1)
    with threadpool_limits(1), tempfile.TemporaryDirectory(dir=_build()) as directory:
        for kind in ("structured", "gaussian"):
            asyncio.run(_engine(report, kind, Path(directory) / kind))
            for n in (100_000, 1_000_000):
                _scan(report, kind, n)
        kept = float(_child("memory"))
        name = f"structured, 1,000,000: the process's memory, {PAYLOAD} B of CBOR and two gatherings included"
        report.add(Figure(3, "5", name, kept, "B/packet"))
        _many_writers(report, "fsync as it is", json.loads(_child(str(Path(directory) / "plain"))))
        inject = f"inject=fdatasync,fsync:delay_exit={DELAY_US}"
        tracer = [
            "strace",
            "-f",
            "--seccomp-bpf",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=fdatasync,fsync",
            "-e",
            inject,
        ]
        slow = json.loads(_child(str(Path(directory) / "slow"), tracer))
        _many_writers(report, f"fsync + {DELAY_US / 1000:g} ms", slow)


def fingerprints(kind: str, n: int) -> Points:
    """(n, D): a mixture of 200 clusters of unequal sizes, or one normal distribution."""
    random = np.random.default_rng(SEED)
    if kind == "gaussian":
        return random.normal(size=(n, D)).astype(np.float32)
    centres = 2.0 * random.normal(size=(200, D))
    sizes = random.dirichlet(np.ones(200))
    points: Points = (centres[random.choice(200, n, p=sizes)] + 0.3 * random.normal(size=(n, D))).astype(np.float32)
    return points


# ---- questions -----------------------------------------------------------------------------------------------


def _scan(report: Report, kind: str, n: int) -> None:
    """The scan alone: what a question costs, one arm, single-threaded, beside the bare libraries."""
    points = fingerprints(kind, n + QUESTIONS)
    held, asked = points[:n], points[n:]
    scan = _filled(held, ["a"] * n)
    label = f"{kind}, {n:,}"
    started = perf_counter()
    while gathering := scan.gather():
        scan.adopt(gathering, gathering.work(lambda: False))
    report.add(Figure(3, "5", f"{label}: gathered into blocks (in the background)", perf_counter() - started, "s"))
    wrong = sum(not _exact(scan, held, asked[i], 50) for i in range(5))
    report.add(Figure(3, "5", f"{label}: answers unlike brute force, of 5", wrong, "", bar="= 0", holds=wrong == 0))
    flat = faiss.IndexFlatL2(D)
    flat.add(held)
    norms = np.einsum("ij,ij->i", held, held)

    def bare(query: Points, k: int) -> npt.NDArray[np.intp]:
        gaps = norms - 2.0 * (held @ query)
        rows = np.argpartition(gaps, k)[:k]
        ordered: npt.NDArray[np.intp] = rows[np.argsort(gaps[rows])]
        return ordered

    packets = scan._arms["a"].packets

    for k in (50, 10_000):
        ours, of_faiss, of_numpy, with_packets = side_by_side(
            [
                lambda i, k=k: scan.nearest(NearestQuery(asked[i], k)),  # type: ignore[misc]
                lambda i, k=k: flat.search(asked[i : i + 1], k),  # type: ignore[misc]
                lambda i, k=k: bare(asked[i], k),  # type: ignore[misc]
                lambda i, k=k: [packets[row] for row in flat.search(asked[i : i + 1], k)[1][0].tolist()],  # type: ignore[misc]
            ]
        )
        bar = 1.5 if k == 10_000 else 1.3 if n == 100_000 else 0.5
        ratio = ours / with_packets
        name = f"{label}: nearest {k:,}"
        report.add(Figure(3, "5", name, ours, "ms", "faiss Flat, and the packets", ratio, f"<= {bar}", ratio <= bar))
        report.add(Figure(3, "5", name, ours, "ms", "faiss Flat (ids only)", ours / of_faiss))
        report.add(Figure(3, "5", name, ours, "ms", "numpy scan (ids only)", ours / of_numpy))
    if n == 100_000:
        random = np.random.default_rng(SEED)
        arms = _filled(held, random.choice(ACTIONS, n, p=SHARES).tolist())
        for k in (50, 10_000):
            per_action, over_all = side_by_side(
                [
                    lambda i, k=k: arms.nearest(NearestQuery(asked[i], k)),  # type: ignore[misc]
                    lambda i, k=k: arms.nearest(NearestQuery(asked[i], k, "all")),  # type: ignore[misc]
                ]
            )
            name = f"{label}, 4 actions: nearest {k:,}"
            report.add(Figure(3, "5", f"{name} of each", per_action, "ms"))
            report.add(Figure(3, "5", f"{name} over all", over_all, "ms", "of each", over_all / per_action))


def _filled(points: Points, actions: Sequence[str]) -> Scan:
    scan, body = Scan(NETWORK, D), bytes(PAYLOAD - 8)
    for start in range(0, len(points), 1024):
        end = min(start + 1024, len(points))
        scan.take(Entry(_node(i), actions[i], points[i].tobytes(), body + _node(i)) for i in range(start, end))
    return scan


def _node(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _exact(scan: Scan, points: Points, query: Points, k: int) -> bool:
    distances2 = squared_distances(points.astype(np.float64), query.astype(np.float64))
    near = np.flatnonzero(distances2 <= np.partition(distances2, k - 1)[k - 1]).tolist()
    expected = sorted((float(distances2[row]), identity_digest(NETWORK, _node(row))) for row in near)[:k]
    return scan.nearest(NearestQuery(query, k)).distances2.tolist() == [distance for distance, _ in expected]


def side_by_side(contenders: Sequence[Callable[[int], object]]) -> list[float]:
    """The median time of each in ms, in turns over the same questions: of this thread, others share the cores."""
    times: list[list[float]] = [[] for _ in contenders]
    gc.disable()
    for question in range(QUESTIONS):
        for ask, taken in zip(contenders, times, strict=True):
            ask((question + 1) % QUESTIONS)
            for again in range(ROUNDS):
                started = thread_time()
                ask((question + 7 * again) % QUESTIONS)
                taken.append(1000 * (thread_time() - started))
    gc.enable()
    return [statistics.median(taken) for taken in times]


# ---- deposits ------------------------------------------------------------------------------------------------


async def _engine(report: Report, kind: str, path: Path) -> None:
    """The engine: 100,000 packets of 512 bytes deposited, asked, opened again."""
    n = 100_000
    points = fingerprints(kind, n + QUESTIONS)
    random = np.random.default_rng(SEED)
    pairs = [prepared(random.bytes(12), points[i], "a") for i in range(n)]
    writer = Writer()
    engine = EmbeddedEngine(NETWORK, D, path, writer)
    await engine.open()
    deposits = iter([pairs[start : start + DEPOSIT] for start in range(0, n, DEPOSIT)])
    started, used = perf_counter(), process_time()

    async def deposit() -> None:
        for batch in deposits:
            assert await engine.put(batch) == ["accepted"] * len(batch)

    await asyncio.gather(*(deposit() for _ in range(AT_ONCE)))
    rate, used = n / (perf_counter() - started), process_time() - used
    label = f"{kind}, {n:,}"
    name = f"{label}: bulk load, packets checked and encoded before"
    report.add(Figure(3, "5", name, rate, "packets/s", bar=">= 100,000", holds=rate >= 100_000))
    bare_rate, bare_used = _bare_lmdb(path.with_name(f"{kind}-bare"), pairs)
    report.add(Figure(3, "5", name, rate, "packets/s", "bare LMDB", rate / bare_rate))
    report.add(Figure(3, "5", f"{name}: processor", 1e6 * used / n, "us/packet", "bare LMDB", used / bare_used))
    disk = (path / "data.mdb").stat().st_blocks * 512 / n
    name = f"{label}: disk for {PAYLOAD} B of payload, nodes at random"
    report.add(Figure(3, "5", name, disk, "B/packet", bar="<= 900", holds=disk <= 900))
    await engine.close()
    started, used = perf_counter(), process_time()
    await engine.open()
    taken, used = perf_counter() - started, process_time() - used
    report.add(Figure(3, "5", f"{label}: opened again", 1e6 * taken / n, "us/packet"))
    report.add(Figure(3, "5", f"{label}: opened again: processor", 1e6 * used / n, "us/packet"))
    await asyncio.to_thread(engine._index.gathered)
    flat = faiss.IndexFlatL2(D)
    flat.add(points[:n])
    ours: list[float] = []
    bare: list[float] = []
    for number in range(ROUNDS * QUESTIONS):
        query = points[n + number % QUESTIONS]
        started = perf_counter()
        await engine.nearest(NearestQuery(query, 50))
        ours.append(1000 * (perf_counter() - started))
        started = perf_counter()
        await asyncio.to_thread(flat.search, query[None], 50)
        bare.append(1000 * (perf_counter() - started))
    name = f"{label}: nearest 50 through the engine, its thread included"
    mine, theirs = statistics.median(ours), statistics.median(bare)
    report.add(Figure(3, "5", name, mine, "ms", "faiss Flat in a thread", mine / theirs))
    await engine.close()
    writer.close()


def _bare_lmdb(path: Path, pairs: Sequence[tuple[Packet, bytes]]) -> tuple[float, float]:
    """Packets per second, and seconds of processor: by node, sorted, in commits of as many as are under way."""
    with lmdb.open(str(path), map_size=1 << 30) as environment:
        started, used = perf_counter(), process_time()
        for start in range(0, len(pairs), DEPOSIT * AT_ONCE):
            some = sorted((packet.node, data) for packet, data in pairs[start : start + DEPOSIT * AT_ONCE])
            with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
                cursor.putmulti(some)
        return len(pairs) / (perf_counter() - started), process_time() - used


def prepared(node: bytes, point: Points, action: str, seq: int = 1) -> tuple[Packet, bytes]:
    """A packet of `PAYLOAD` bytes, checked and encoded."""
    outcomes = {f"outcome-{i:02}-{'x' * 33}": float(point[i]) for i in range(6)}
    packet = Packet("medicine", bytes(8), NETWORK, node, seq, 1.7e9, 1.7e9 + 0.1, point, action, outcomes)
    short = PAYLOAD - len(packet.to_cbor())
    outcomes["y" * (short - 3)] = None
    made = packet.to_cbor()
    assert abs(len(made) - PAYLOAD) <= 2, len(made)
    return packet, made


def _many_writers(report: Report, label: str, rates: dict[str, float]) -> None:
    ratio = rates["many"] / rates["one"]
    report.add(Figure(3, "5", f"{label}: durable deposits, one writer", rates["one"], "deposits/s"))
    name = f"{label}: durable deposits, {WRITERS} writers"
    report.add(Figure(3, "5", name, rates["many"], "deposits/s", "one writer", ratio, ">= 10", ratio >= 10))


def _child(argument: str, tracer: Sequence[str] = ()) -> str:
    """What this module prints in a process of its own."""
    command = [*tracer, sys.executable, "-m", "benchmarks.engine", argument]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


async def writing(path: Path) -> dict[str, float]:
    """Deposits of one packet each, per second: by one writer, and by 64 at once; in turns, medians."""
    point = fingerprints("gaussian", 1)[0]
    pairs = iter([prepared(b"%d" % (i % 5000), point, "a", i + 1) for i in range(3 * (300 + WRITERS * 60))])
    writer = Writer()
    engine = EmbeddedEngine(NETWORK, D, path, writer)
    await engine.open()

    async def deposit(deposits: int) -> None:
        for _ in range(deposits):
            await engine.put([next(pairs)])

    rates: dict[str, list[float]] = {"one": [], "many": []}
    for _ in range(3):
        for name, writers, deposits in (("one", 1, 300), ("many", WRITERS, 60)):
            started = perf_counter()
            await asyncio.gather(*(deposit(deposits) for _ in range(writers)))
            rates[name].append(writers * deposits / (perf_counter() - started))
    await engine.close()
    writer.close()
    return {name: statistics.median(each) for name, each in rates.items()}


def memory() -> float:
    """Bytes per packet that a scan of a million keeps in memory, after blocks were made twice."""
    n = 1_000_000
    points = fingerprints("structured", n)
    before = _resident()
    scan = _filled(points, ["a"] * n)
    arm = scan._arms["a"]
    for _ in range(2):
        arm.adopt(Coarse.gathered(arm.gather(), lambda: False), n)
    return (_resident() - before) / n


def _resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _build() -> Path:
    path = ROOT / "build"
    path.mkdir(exist_ok=True)
    return path


if __name__ == "__main__":
    print(memory() if sys.argv[1] == "memory" else json.dumps(asyncio.run(writing(Path(sys.argv[1])))))
