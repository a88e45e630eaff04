"""Every engine with its real servers: deposits, buckets, questions, room, what a kill costs; and bare clients."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from time import perf_counter

import aiohttp
import aiomqtt
import nats
import numpy as np
import orjson
from pymilvus import AsyncMilvusClient
from redis.asyncio import Redis

from benchmarks.report import Figure, Report
from regional.engine import Engine, NearestQuery
from regional.engines.etcd.engine import ATOMIC
from regional.engines.etcd.link import encoded
from regional.engines.milvus.rows import FOUND, INDEX, PLACE, Held, key_of, packet_row, schema_of
from regional.engines.mqtt.link import AT_ONCE
from regional.engines.nats.writer import MAX_GROUP
from regional.packets.packet import Packet, node_text
from regional.partition import Partition
from registry.errors import Unavailable
from tests.engines.kinds import HOME, KINDS, D, Kind, Served
from tests.engines.packets import Pair, packet, pair

SEED = 20261122
MANY = 10_000
FEW = 50
MOST = 100_000  # packets for the room that they take
SEED_BYTES = 512  # of a packet, as the seed has it
SINGLES = 300
BATCH = 1_000
QUESTIONS = 200
RATIO = 1.3
TURNS = 3
SETTLE_S = 5.0  # until what a server writes later is written
PARTED = Partition(2, np.stack([np.zeros(D), np.full(D, 60.0)]).astype(np.float32))


def run(report: Report) -> None:
    """Figures 1, 2 and 3; an engine that is in KINDS is measured."""
    asyncio.run(_run(report))


async def _run(report: Report) -> None:
    large = [pair(packet(number)) for number in range(MANY)]
    small = [pair(packet(MANY + number, fingerprint=np.full(D, 60, dtype=np.float32))) for number in range(FEW)]
    for which in KINDS:
        with tempfile.TemporaryDirectory() as home:
            kind = which(Path(home))
            kind.start()
            try:
                await _measure(report, kind, large, small)
                if isinstance(kind, Served):
                    if kind.name in _BARE:
                        await _beside_the_bare_client(report, kind, large)
                    await _kill(report, kind)
            finally:
                kind.stop()
        with tempfile.TemporaryDirectory() as home:
            kind = which(Path(home))
            kind.start()
            try:
                await _room(report, kind)
            finally:
                kind.stop()


async def _measure(report: Report, kind: Kind, large: Sequence[Pair], small: Sequence[Pair]) -> None:
    def add(name: str, value: float, unit: str) -> None:
        report.add(Figure(5, "1", f"{kind.name}: {name}", value, unit))

    engine = kind.engine("figures", PARTED)
    await engine.open()
    memory = _memory(kind)
    singles = [pair(packet(2 * MANY + number)) for number in range(SINGLES)]
    add(
        "deposits of one, one after another",
        SINGLES / await _seconds(lambda: _one_by_one(engine, singles)),
        "packets/s",
    )
    add(f"deposits of {BATCH:,}", MANY / await _seconds(lambda: _in_batches(engine, large)), "packets/s")
    await engine.put(small)
    held = MANY + SINGLES + FEW
    for number, wanted in ((1, FEW), (0, MANY + SINGLES)):
        times = []
        for _ in range(5):
            started = perf_counter()
            assert len(await engine.bucket(number)) == wanted
            times.append(1000 * (perf_counter() - started))
        add(f"bucket of {wanted:,}", statistics.median(times), "ms")
    random = np.random.default_rng(SEED)
    times = []
    for point in random.normal(size=(QUESTIONS, D)).astype(np.float32):
        started = perf_counter()
        await engine.nearest(NearestQuery(point, 50))
        times.append(1000 * (perf_counter() - started))
    add("nearest 50, p50", statistics.median(times), "ms")
    add("nearest 50, p99", statistics.quantiles(times, n=100)[98], "ms")
    if isinstance(kind, Served):
        add("memory of the servers", (_memory(kind) - memory) / held, "B/packet")
    await engine.close()
    add(f"opened with {held:,} packets", await _seconds(engine.open), "s")
    await engine.close()


async def _room(report: Report, kind: Kind) -> None:
    """100,000 packets of 512 bytes: what the servers' files and memory grow by, all copies counted."""
    engine = kind.engine("room", PARTED)
    await engine.open()
    memory, disk = _memory(kind), _disk(kind)
    for start in range(0, MOST, BATCH):
        await engine.put([_weighty(number) for number in range(start, start + BATCH)])
    await asyncio.sleep(SETTLE_S)
    held, kept = (_memory(kind) - memory) / MOST, (_disk(kind) - disk) / MOST
    await engine.close()

    def add(name: str, value: float, unit: str, against: str | None = None, ratio: float | None = None) -> None:
        report.add(Figure(5, "3", f"{kind.name}: {name}", value, unit, against, ratio))

    if isinstance(kind, Served):
        add(f"memory of the servers, {MOST:,} packets of {SEED_BYTES} B", held, "B/packet")
    seed = f"the seed's {SEED_BYTES} B"
    add(f"disk, {MOST:,} packets, all copies", kept, "B/packet", seed, kept / SEED_BYTES)
    add("disk for 1e9 packets, extrapolated", kept, "GB", "the seed's 512 GB", kept / SEED_BYTES)


def _weighty(number: int) -> Pair:
    """A packet of 512 bytes."""
    node, place = b"w" + number.to_bytes(4, "big"), _PLACES[number]
    made = Packet(HOME.domain, HOME.space8, HOME.network, node, 1, 1.0, 2.0, place, "ab"[number % 2], _OUTCOMES)
    return pair(made)


_PLACES = np.random.default_rng(SEED).normal(size=(MOST, D)).astype(np.float32)
_OUTCOMES = {f"outcome {letter} ".ljust(40, letter): 1.5 for letter in "abcdefgh"} | {"i" * 64: None, "j": None}


async def _beside_the_bare_client(report: Report, kind: Served, packets: Sequence[Pair]) -> None:
    """The same writes, in the same groups, by the client library alone; alternately, the best of each."""
    ours, bare = [], []
    for turn in range(TURNS):
        engine = kind.engine(f"ours-{turn}")
        await engine.open()
        ours.append(await _seconds(lambda engine=engine: _in_batches(engine, packets)))  # type: ignore[misc]
        await engine.close()
        bare.append(await _BARE[kind.name](kind, packets, f"bare-{turn}"))
    ratio = min(ours) / min(bare)
    name = f"{kind.name}: deposits of {BATCH:,} through the adapter"
    rate = MANY / min(ours)
    report.add(Figure(5, "2", name, rate, "packets/s", "time of the bare client", ratio, f"<= {RATIO}", ratio <= RATIO))


async def _kill(report: Report, kind: Served) -> None:
    """The leader, or the only server, is killed under deposits."""
    front = kind.front("killed", patience_s=30.0)
    await front.open()
    acknowledged: dict[int, int] = {}
    gap = 0.0
    stop = asyncio.Event()

    async def deposit(number: int) -> None:
        nonlocal gap
        seq, last = 0, perf_counter()
        while not stop.is_set():
            seq += 1
            try:
                await front.put([pair(packet(number, seq))])
            except Unavailable:
                continue
            acknowledged[number] = seq
            gap = max(gap, perf_counter() - last)
            last = perf_counter()

    depositing = [asyncio.create_task(deposit(number)) for number in range(8)]
    await asyncio.sleep(4)
    gap = 0.0
    leader = kind.servers.leader()
    leader.kill()
    await asyncio.sleep(0.5)
    if len(kind.servers.processes) == 1:
        await asyncio.to_thread(kind.servers.start)
    before = dict(acknowledged)
    while any(acknowledged[number] <= before[number] + 2 for number in before):
        await asyncio.sleep(0.05)
    stop.set()
    await asyncio.gather(*depositing)
    await front.close()
    if not leader.running:
        await asyncio.to_thread(kind.servers.start)
    late = kind.front("killed")
    await late.open()
    lost = 0
    for number, seq in acknowledged.items():
        data = await late.get(packet(number).node)
        lost += data is None or Packet.from_cbor(data).seq < seq
    await late.close()
    report.add(Figure(5, "1", f"{kind.name}: longest wait of a deposit when a server is killed", gap, "s"))
    name = f"{kind.name}: acknowledged packets lost"
    report.add(Figure(5, "1", name, lost, "packets", bar="= 0", holds=lost == 0))


# ---- bare clients --------------------------------------------------------------------------------------------


async def _nats(kind: Served, packets: Sequence[Pair], name: str) -> float:
    client = await nats.connect(f"nats://{kind.servers.hosts.split(',', maxsplit=1)[0]}")
    stream = client.jetstream()
    await stream.add_stream(name=name, subjects=[f"{name}.>"], max_msgs_per_subject=1, num_replicas=3)
    watch = await stream.subscribe(f"{name}.>", cb=_ignore, ordered_consumer=True)

    async def write() -> None:
        for start in range(0, len(packets), MAX_GROUP):
            some = packets[start : start + MAX_GROUP]
            await asyncio.gather(*(publish(start + i, i, made.node, data) for i, (made, data) in enumerate(some)))

    async def publish(last: int, i: int, node: bytes, data: bytes) -> None:
        headers = {"Nats-Expected-Last-Sequence": str(last), "Nats-Msg-Id": f"{name}.{last}"}
        if i:
            headers["Nats-Expected-Last-Msg-Id"] = f"{name}.{last - 1}"
        await stream.publish(f"{name}.{node_text(node)}", data, headers=headers)

    seconds = await _seconds(write)
    await watch.unsubscribe()
    await client.close()
    return seconds


async def _etcd(kind: Served, packets: Sequence[Pair], name: str) -> float:
    url = f"http://{kind.servers.hosts.split(',', maxsplit=1)[0]}/v3/kv/txn"
    slots = asyncio.Semaphore(16)
    async with aiohttp.ClientSession() as session:

        async def write(some: Sequence[Pair]) -> None:
            puts = []
            compare = []
            for made, data in some:
                at = encoded(f"{name}/at/{made.node.hex()}".encode())
                compare.append({"key": at, "target": "MOD", "result": "EQUAL", "mod_revision": "0"})
                puts.append(
                    {"request_put": {"key": encoded(f"{name}/{made.node.hex()}".encode()), "value": encoded(data)}}
                )
                puts.append({"request_put": {"key": at, "value": encoded(b"0 1")}})
            body = orjson.dumps({"compare": compare, "success": puts})
            async with slots, session.post(url, data=body) as response:
                assert (await response.json())["succeeded"]

        async def write_all() -> None:
            for start in range(0, len(packets), BATCH):
                batch = packets[start : start + BATCH]
                await asyncio.gather(*(write(batch[at : at + ATOMIC]) for at in range(0, len(batch), ATOMIC)))

        async def watch() -> None:
            begin, end = encoded(f"{name}/".encode()), encoded(f"{name}0".encode())
            body = orjson.dumps({"create_request": {"key": begin, "range_end": end}})
            async with session.post(url.replace("kv/txn", "watch"), data=body) as response:
                async for _ in response.content.iter_any():
                    watching.set()

        watching = asyncio.Event()
        following = asyncio.create_task(watch())
        await watching.wait()
        seconds = await _seconds(write_all)
        following.cancel()
        return seconds


async def _redis(kind: Served, packets: Sequence[Pair], name: str) -> float:
    """The same keys, in transactions that compare nothing."""
    client = Redis.from_url(f"redis://{kind.servers.hosts}")

    async def write() -> None:
        for start in range(0, len(packets), BATCH):
            async with client.pipeline(transaction=True) as pipeline:
                for made, data in packets[start : start + BATCH]:
                    pipeline.hget(f"{name}:at", made.node)
                    pipeline.hset(f"{name}:0", made.node, data)
                    pipeline.hset(f"{name}:at", made.node, "0000:1")
                    pipeline.zadd(f"{name}:changes", {made.node: start})
                await pipeline.execute()

    seconds = await _seconds(write)
    await client.aclose()
    return seconds


async def _mqtt(kind: Served, packets: Sequence[Pair], name: str) -> float:
    slots = asyncio.Semaphore(AT_ONCE)
    client = aiomqtt.Client("127.0.0.1", kind.servers.processes[0].port, max_inflight_messages=AT_ONCE)
    client.pending_calls_threshold = 2 * AT_ONCE
    async with client, aiomqtt.Client("127.0.0.1", kind.servers.processes[0].port) as watch:
        await watch.subscribe(f"{name}/#", qos=1)

        async def write(made: bytes, data: bytes) -> None:
            async with slots:
                await client.publish(f"{name}/{made.hex()}", data, qos=1, retain=True)

        return await _seconds(lambda: _all(write(made.node, data) for made, data in packets))


async def _milvus(kind: Served, packets: Sequence[Pair], name: str) -> float:
    """The same rows, after the same question for what is held."""
    client = AsyncMilvusClient(f"http://{kind.servers.hosts}")
    name = name.replace("-", "_")
    index = client.prepare_index_params()
    index.add_index(PLACE, **INDEX)
    await client.create_collection(name, schema=schema_of(D), index_params=index, consistency_level="Eventually")

    async def write() -> None:
        revision = 0
        for start in range(0, len(packets), BATCH):
            some = packets[start : start + BATCH]
            keys = ",".join(f'"{key_of(made.node)}"' for made, _ in some)
            await client.query(name, filter=f"node in [{keys}]", output_fields=["node", "state", "seq", "bucket"])
            rows = []
            for made, data in some:
                revision += 1
                held = Held(FOUND, made.seq, 0)
                rows.append(packet_row(made.node, held, made.action, made.fingerprint, data, revision, D))
            await client.upsert(name, rows)

    seconds = await _seconds(write)
    await client.close()
    return seconds


_BARE: dict[str, Callable[[Served, Sequence[Pair], str], Awaitable[float]]] = {
    "nats": _nats,
    "etcd": _etcd,
    "redis": _redis,
    "mqtt": _mqtt,
    "milvus": _milvus,
}


async def _ignore(message: object) -> None:
    """A front watches what it writes; so does the bare client."""


# ---- measuring -----------------------------------------------------------------------------------------------


async def _seconds(work: Callable[[], Awaitable[object]]) -> float:
    started = perf_counter()
    await work()
    return perf_counter() - started


async def _all(work) -> None:  # type: ignore[no-untyped-def]
    await asyncio.gather(*work)


async def _one_by_one(engine: Engine, packets: Sequence[Pair]) -> None:
    for each in packets:
        await engine.put([each])


async def _in_batches(engine: Engine, packets: Sequence[Pair]) -> None:
    assert HOME.network == packets[0][0].network
    for start in range(0, len(packets), BATCH):
        await engine.put(packets[start : start + BATCH])


def _memory(kind: Kind) -> int:
    """Bytes that the servers hold."""
    if not isinstance(kind, Served):
        return 0
    lines = [Path(f"/proc/{each.server}/status").read_text() for each in kind.servers.processes]
    return sum(1024 * int(text.split("VmRSS:")[1].split()[0]) for text in lines)


def _disk(kind: Kind) -> int:
    """Bytes that the files take."""
    return sum(path.stat().st_blocks * 512 for path in kind.home.rglob("*") if path.is_file())
