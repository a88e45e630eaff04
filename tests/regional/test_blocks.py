"""Blocks leave out only what cannot be among the nearest: the pruned scan equals brute force, bit for bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional.engine import NearestQuery
from regional.engines.exact import arm as arm_module
from regional.engines.exact import blocks as blocks_module
from regional.engines.exact.blocks import Blocks
from regional.engines.exact.coarse import Coarse
from regional.engines.exact.scan import Entry, Scan
from tests.regional.test_scan import NETWORK, check, entry


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Blocks of four packets, chosen for every question, so that small examples exercise them."""
    monkeypatch.setattr(arm_module, "COARSE_ABOVE", 0)
    monkeypatch.setattr(blocks_module, "SIZE", 4)
    monkeypatch.setattr("regional.engines.exact.coarse._FEW", 0)
    monkeypatch.setattr(Coarse, "_spares", lambda *_: True)


def gather(scan, between=lambda: None):
    """Gather every arm; `between` happens while the blocks are made."""
    made = [(arm, arm.gather()) for arm in scan._arms.values()]
    between()
    for arm, points in made:
        arm.adopt(Coarse.gathered(points.copy(), lambda: False), len(points))


def change(scan, rows, random, steps, places):
    """Deposit, overwrite and withdraw at random."""
    for _ in range(steps):
        node = int(random.integers(len(places))).to_bytes(4, "big")
        kind = random.integers(4)
        if kind == 0:
            scan.take([Entry(node, "", b"", b"")])
            rows.pop(node, None)
            continue
        if kind == 1 and node in rows:  # a newer outcome at the same place
            rows[node] = (rows[node][0], rows[node][1])
        else:
            rows[node] = (str(random.choice(["", "a"])), places[random.integers(len(places))])
        scan.take([entry(node, *rows[node])])


cases = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "n": st.integers(1, 150),
        "d": st.integers(1, 12),
        "k": st.integers(1, 30),
        "offset": st.sampled_from([0.0, 1e4, 1e7]),
        "distinct": st.sampled_from([1, 3, 12, 1000]),
        "changes": st.integers(0, 60),
        "during": st.integers(0, 20),
    }
)


@given(cases)
def test_equals_brute_force_whatever_changes(case):
    seed, n, d, k = (case[name] for name in ("seed", "n", "d", "k"))
    random = np.random.default_rng(seed)
    centres = 5.0 * random.normal(size=(min(n, case["distinct"]), d))
    kinds = (case["offset"] + centres + 0.1 * random.normal(size=centres.shape)).astype(np.float32)
    places = kinds[random.integers(0, len(kinds), n)]
    if seed % 4 == 0:
        places[0] += np.float32(1e6)
    if seed % 7 == 0:
        places[:, 0] = 3.0  # an axis of zero width
    scan, rows = Scan(NETWORK, d), {}
    rows.update({i.to_bytes(4, "big"): ("a" if i % 3 else "", place) for i, place in enumerate(places)})
    scan.take(entry(node, *held) for node, held in rows.items())
    gather(scan, lambda: change(scan, rows, random, case["during"], places))
    change(scan, rows, random, case["changes"], places)
    assert len(scan) == len(rows)
    for per in ("action", "all"):
        for near in (places[random.integers(n)], places[0] + np.float32(0.05)):
            query = NearestQuery(near, k, per)
            check(scan, rows, query)
            found = scan.nearest(query).distances2
            if len(found):
                check(scan, rows, NearestQuery(near, k, per, within=float(np.sqrt(found[len(found) // 2]))))
    gather(scan)
    check(scan, rows, NearestQuery(places[0], k))


def test_every_point_stands_in_one_block_within_its_bounds():
    random = np.random.default_rng(1)
    points = np.concatenate([random.normal(size=(500, 3)), np.zeros((200, 3)), [[1e6, 0, 0]]]).astype(np.float32)
    blocks, order = Blocks.of(points, lambda: False)
    assert sorted(order.tolist()) == list(range(701))
    assert blocks.starts[0] == 0
    assert blocks.starts[-1] == 701
    exact = points[order].astype(np.float64)
    for i, (start, end) in enumerate(zip(blocks.starts[:-1], blocks.starts[1:], strict=True)):
        assert (exact[start:end] >= blocks.bounds.lo[i]).all()
        assert (exact[start:end] <= blocks.bounds.hi[i]).all()
        assert (np.linalg.norm(exact[start:end] - blocks.bounds.centre[i], axis=1) <= blocks.bounds.radius[i]).all()
    assert len(blocks.starts) > 100  # split, but for those that are all alike


def test_a_question_leaves_out_far_blocks():
    random = np.random.default_rng(2)
    points = (10 * random.normal(size=(50, 1, 8)) + 0.1 * random.normal(size=(50, 40, 8))).reshape(-1, 8)
    coarse = Coarse.gathered(points.astype(np.float32), lambda: False)
    runs = coarse._within_reach(coarse.blocks, points[100], 10, np.inf)
    assert 10 <= sum(end - start for start, end in runs) < 100


def test_gathering_that_is_stopped_is_still_right():
    points = np.random.default_rng(3).normal(size=(100, 4)).astype(np.float32)
    blocks, order = Blocks.of(points, lambda: True)
    assert blocks.starts.tolist() == [0, 100]
    assert sorted(order.tolist()) == list(range(100))


def test_an_arm_that_shrinks_or_moves_is_gathered_anew(monkeypatch):
    monkeypatch.setattr(arm_module, "BLOCKS_ABOVE", 40)
    places = np.random.default_rng(4).normal(size=(100, 2)).astype(np.float32)
    scan = Scan(NETWORK, 2)
    rows = {bytes([i]): ("a", place) for i, place in enumerate(places)}
    scan.take(entry(node, *held) for node, held in rows.items())
    assert scan.scattered()
    gathering = scan.gather()
    scan.adopt(gathering, gathering.work(lambda: False))
    assert not scan.scattered()
    assert scan.gather() is None
    for i in range(34):
        rows[bytes([i])] = ("a", places[i] + np.float32(1))
        scan.take([entry(bytes([i]), *rows[bytes([i])])])
    assert scan.scattered()
    check(scan, rows, NearestQuery(places[3], 7))
    gathering = scan.gather()
    scan.take(Entry(bytes([i]), "", b"", b"") for i in range(90))
    scan.adopt(gathering, gathering.work(lambda: False))
    check(scan, {node: rows[node] for node in list(rows)[90:]}, NearestQuery(places[95], 7))
    assert scan.scattered()  # nearly all are voids


def test_overwriting_at_new_places_keeps_memory_bounded(monkeypatch):
    monkeypatch.setattr(arm_module, "BLOCKS_ABOVE", 40)
    random = np.random.default_rng(5)
    scan, rows = Scan(NETWORK, 2), {}
    most = 0
    for step in range(3000):
        node = bytes([step % 100])
        rows[node] = ("a", random.normal(size=2).astype(np.float32))
        scan.take([entry(node, *rows[node])])
        coarse = scan._arms["a"]._coarse
        most = max(most, len(coarse._norms))
        assert coarse.used - coarse.voids == len(rows)
        if gathering := scan.gather():
            scan.adopt(gathering, gathering.work(lambda: False))
    assert most < 250
    check(scan, rows, NearestQuery(rows[b"\x03"][1], 9))
