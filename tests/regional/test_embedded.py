"""The embedded engine: durable before acknowledged, exact after a restart, bounded by its disk."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from regional.engine import NearestQuery
from regional.engines.embedded.engine import MAX_WAITING, EmbeddedEngine
from regional.engines.embedded.store import Store
from regional.engines.embedded.writer import Writer
from regional.engines.exact import arm as arm_module
from regional.engines.exact import blocks as blocks_module
from regional.engines.exact.scan import Entry
from regional.packets.packet import NO_FINGERPRINT, Packet
from registry.errors import Corrupt, StorageFull, Unavailable
from tests.regional.depositor import packet

DEPOSITOR = Path(__file__).with_name("depositor.py")


@pytest.fixture
def writer():
    made = Writer()
    yield made
    made.close()


@pytest.fixture
async def engine(tmp_path, writer):
    made = EmbeddedEngine("net", 2, tmp_path / "net", writer)
    await made.open()
    yield made
    await made.close()


def pair(made: Packet) -> tuple[Packet, bytes]:
    return made, made.to_cbor()


def query(x, y, k=5, **rest):
    return NearestQuery(np.array([x, y], dtype=np.float32), k, **rest)


async def nodes(engine, asked):
    return [Packet.from_cbor(data).node for data in (await engine.nearest(asked)).packets]


async def test_only_a_higher_seq_overwrites(engine):
    first = packet(1)
    moved = replace(first, seq=3, fingerprint=np.array([9, 9], dtype=np.float32), action="b")
    assert await engine.put([pair(first)]) == ["accepted"]
    assert await engine.put([pair(first)]) == ["stale"]
    assert await engine.put([pair(moved), pair(replace(first, seq=2))]) == ["accepted", "stale"]
    assert engine.count == 1
    assert await engine.get(first.node) == moved.to_cbor()
    found = await engine.nearest(query(0, 0))
    assert found.packets == [moved.to_cbor()]
    assert found.distances2.tolist() == [162.0]


async def test_a_node_twice_in_one_batch_leaves_the_newest(engine):
    newest = replace(packet(1), seq=5)
    assert await engine.put([pair(packet(1)), pair(newest), pair(replace(packet(1), seq=4))]) == [
        "accepted",
        "accepted",
        "stale",
    ]
    assert await engine.get(newest.node) == newest.to_cbor()


async def test_a_tombstone_stays_and_is_not_found(engine, tmp_path, writer):
    await engine.put([pair(packet(1)), pair(packet(2))])
    gone = replace(packet(1), seq=2, fingerprint=NO_FINGERPRINT, action=None, tombstone=True)
    assert await engine.put([pair(gone)]) == ["accepted"]
    assert await nodes(engine, query(0, 0)) == [packet(2).node]
    assert engine.count == 1
    await engine.close()
    again = EmbeddedEngine("net", 2, tmp_path / "net", writer)
    await again.open()
    assert again.count == 1
    assert await again.put([pair(packet(1))]) == ["stale"]
    assert await again.get(packet(1).node) == gone.to_cbor()
    await again.close()


async def test_a_restart_finds_the_same(engine, tmp_path, writer):
    await engine.put([pair(packet(i)) for i in range(3000)])
    await engine.keep_note("coverage", b"{}")
    before = await engine.nearest(query(3, 1500, 40))
    await engine.close()
    again = EmbeddedEngine("net", 2, tmp_path / "net", writer)
    await again.open()
    after = await again.nearest(query(3, 1500, 40))
    assert (after.packets, after.distances2.tolist()) == (before.packets, before.distances2.tolist())
    assert await again.note("coverage") == b"{}"
    assert await again.note("other") is None
    await again.close()


async def test_one_process_owns_a_store(engine, tmp_path, writer):
    other = EmbeddedEngine("net", 2, tmp_path / "net", writer)
    with pytest.raises(Unavailable, match="in use by another process"):
        await other.open()


async def test_many_networks_share_one_thread(tmp_path, writer):
    before = threading.active_count()
    engines = [EmbeddedEngine(f"n{i}", 2, tmp_path / f"n{i}", writer) for i in range(20)]
    await asyncio.gather(*(engine.open() for engine in engines))
    await asyncio.gather(*(engine.put([pair(packet(i)) for i in range(20)]) for engine in engines))
    assert threading.active_count() <= before + 1
    assert all(engine.count == 20 for engine in engines)
    assert sum(f.stat().st_blocks * 512 for f in tmp_path.glob("*/data.mdb")) < 20 * 200_000
    await asyncio.gather(*(engine.close() for engine in engines))


async def test_a_full_store_refuses_and_keeps_what_it_has(tmp_path, writer):
    engine = EmbeddedEngine("net", 2, tmp_path / "net", writer, max_map=1 << 19)
    await engine.open()
    number = 0
    refused = None
    while refused is None:
        try:
            await engine.put([pair(packet(number + i)) for i in range(100)])
            number += 100
        except StorageFull as error:
            refused = error
    assert "limit of 524288 bytes" in refused.detail
    assert number > 0
    assert engine.count == number
    assert await engine.get(packet(number).node) is None
    assert len((await engine.nearest(query(0, 0, 10_000))).packets) == number
    small, large = await asyncio.gather(
        engine.put([pair(replace(packet(0), seq=9))]),
        engine.put([pair(packet(number + i)) for i in range(3000)]),
        return_exceptions=True,
    )
    assert small == ["accepted"]
    assert isinstance(large, StorageFull)
    assert engine.count == number
    await engine.close()


async def test_the_map_grows(engine):
    text = "x" * 60
    wide = [replace(packet(i), outcomes={text[:-1] + str(j): 1.5 for j in range(8)}) for i in range(4000)]
    assert set(await engine.put([pair(each) for each in wide])) == {"accepted"}
    assert engine.count == 4000


async def test_overwriting_does_not_grow_the_store(engine, tmp_path):
    file = tmp_path / "net" / "data.mdb"
    sizes = []
    for seq in range(1, 13):
        await engine.put([pair(replace(packet(i), seq=seq)) for i in range(1000)])
        sizes.append(file.stat().st_blocks)
    assert sizes[-1] <= 1.2 * sizes[3]
    assert engine.count == 1000


async def test_gathering_in_the_background_changes_no_answer(tmp_path, writer, monkeypatch):
    monkeypatch.setattr(arm_module, "BLOCKS_ABOVE", 1000)
    monkeypatch.setattr(blocks_module, "SIZE", 64)
    engine = EmbeddedEngine("net", 2, tmp_path / "net", writer)
    await engine.open()
    for start in range(0, 3000, 600):
        await engine.put([pair(packet(i)) for i in range(start, start + 600)])
    before = await engine.nearest(query(4, 150, 40))
    for _ in range(2):
        await engine.close()
        assert "kindred-gatherer" not in [thread.name for thread in threading.enumerate()]
        await engine.open()
        engine._index.gathered()
        assert engine._index._scan._arms["a"]._coarse.blocks is not None
        after = await engine.nearest(query(4, 150, 40))
        assert (after.packets, after.distances2.tolist()) == (before.packets, before.distances2.tolist())
    await engine.close()


async def test_too_many_waiting_are_turned_away(engine, monkeypatch):
    monkeypatch.setattr("regional.engines.embedded.engine.MAX_WAITING", 3)
    with pytest.raises(Unavailable, match="later"):
        await engine.put([pair(packet(i)) for i in range(4)])
    assert await engine.put([pair(packet(i)) for i in range(3)]) == ["accepted"] * 3
    assert MAX_WAITING > 10_000


async def test_a_store_that_does_not_decode_is_named(engine, tmp_path, writer):
    good = packet(1).to_cbor()
    point = packet(1).fingerprint.tobytes()
    for seq, broken in enumerate(
        [
            b"not a packet",
            good[:-1],
            b"\x01",
            good.replace(point, np.array([np.nan, 0], dtype="<f4").tobytes()),
            replace(packet(1), fingerprint=np.zeros(3, dtype=np.float32)).to_cbor(),
            good.replace(b"\x09\x61a", b"\x09\x41a"),
        ],
        start=1,
    ):
        await engine.put([(replace(packet(1), seq=seq), broken)])
        await engine.close()
        again = EmbeddedEngine("net", 2, tmp_path / "net", writer)
        with pytest.raises(Corrupt, match="a stored packet is not usable"):
            await again.open()
        engine._store = Store(tmp_path / "net")
    await engine.close()
    (tmp_path / "net" / "data.mdb").write_bytes(b"nothing" * 5000)
    with pytest.raises(Corrupt, match="not a readable store"):
        await again.open()


async def test_questions_see_only_what_is_committed(engine, monkeypatch):
    """While the commit is under way, its packets are not found; afterwards they are."""
    store = engine._store
    commit = store.put
    seen = []

    def slow(batches):
        result = commit(batches)
        seen.append(len(engine._index._nearest(query(0, 0)).packets))
        return result

    monkeypatch.setattr(store, "put", slow)
    await engine.put([pair(packet(1))])
    assert seen == [0]
    assert len((await engine.nearest(query(0, 0))).packets) == 1


async def test_a_failed_commit_is_not_acknowledged_nor_found(engine, monkeypatch):
    def fail(*args, **kwargs):
        raise StorageFull("full")

    monkeypatch.setattr(engine._store._environment, "write", fail)
    results = await asyncio.gather(*(engine.put([pair(packet(i))]) for i in range(3)), return_exceptions=True)
    assert [type(each) for each in results] == [StorageFull] * 3
    assert engine.count == 0


async def test_a_large_scan_does_not_hold_up_the_loop(tmp_path, writer):
    d = 32
    engine = EmbeddedEngine("net", d, tmp_path / "net", writer)
    await engine.open()
    points = np.random.default_rng(0).normal(size=(100_000, d)).astype(np.float32)
    engine._index.take(Entry(i.to_bytes(4, "big"), "a", point.tobytes(), b"") for i, point in enumerate(points))
    beats = 0

    async def beat():
        nonlocal beats
        while True:
            await asyncio.sleep(0)
            beats += 1

    beating = asyncio.create_task(beat())
    for i in range(10):
        assert len((await engine.nearest(NearestQuery(points[i], 50))).packets) == 50
    beating.cancel()
    assert beats > 100  # in the loop, questions would leave it no turn
    await engine.close()


def start(directory, first, *rest, wrap=()):
    command = [*wrap, sys.executable, str(DEPOSITOR), str(directory), str(first), *map(str, rest)]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


async def test_kill_9_loses_nothing_acknowledged(tmp_path, writer):
    acknowledged = set()
    for life in range(3):
        process = start(tmp_path / "net", life * 100_000)
        assert process.stdout.readline() == "open\n"
        while len(acknowledged) < 60 * (life + 1):
            acknowledged.add(int(process.stdout.readline()))
        process.send_signal(signal.SIGKILL)
        acknowledged |= {int(line) for line in process.stdout.read().splitlines(keepends=True) if line[-1:] == "\n"}
        process.wait()
        process.stdout.close()
    engine = EmbeddedEngine("net", 2, tmp_path / "net", writer)
    await engine.open()
    for number in acknowledged:
        assert await engine.get(packet(number).node) == packet(number).to_cbor()
    found = await nodes(engine, query(0, 0, 10_000))
    assert {packet(number).node for number in acknowledged} <= set(found)
    await engine.close()


def test_one_fsync_for_a_group_before_its_acknowledgements(tmp_path):
    """300 deposits made at once share a few commits: each one fdatasync, and no acknowledgement before.

    How few depends on how the two threads take turns.
    """
    if shutil.which("strace") is None:
        if os.environ.get("CI"):
            pytest.fail("strace is not installed: apt-get install strace")
        pytest.skip("needs strace: apt-get install strace")
    trace = tmp_path / "trace"
    calls = ["strace", "-f", "-e", "trace=fdatasync,fsync,write,pwrite64", "-o", str(trace)]
    process = start(tmp_path / "net", 0, 300, wrap=calls)
    output, _ = process.communicate(timeout=60)
    assert output.count("\n") == 301
    lines = trace.read_text().splitlines()
    opened = next(i for i, line in enumerate(lines) if re.search(r'write\(1, "open', line))
    first = next(i for i, line in enumerate(lines) if re.search(r'write\(1, "0\\n', line))
    syncs = [i for i, line in enumerate(lines) if i > opened and "fdatasync(" in line]
    assert 1 <= len(syncs) <= 15
    assert syncs[0] < first


async def test_a_full_disk_refuses_and_keeps_what_it_has(tmp_path, writer):
    directory = tmp_path / "net"
    process = start(directory, 0, 2000, 120_000)
    output, _ = process.communicate(timeout=60)
    assert "full: the disk is full" in output
    engine = EmbeddedEngine("net", 2, directory, writer)
    await engine.open()
    acknowledged = [int(line) for line in output.splitlines() if line.isdecimal()]
    for number in acknowledged:
        assert await engine.get(packet(number).node) is not None
    assert await engine.put([pair(packet(5000))]) == ["accepted"]
    await engine.close()
