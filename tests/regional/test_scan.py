"""The scan against brute force in float64: the same packets in the same order, whatever the data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional.engine import NearestQuery
from regional.engines.exact import arm as arm_module
from regional.engines.exact.scan import Entry, Scan
from regional.packets.packet import identity_digest
from registry.geometry.region import squared_distances

NETWORK = "net"


@pytest.fixture(autouse=True)
def _always_coarse(monkeypatch):
    """The coarse pass also for a handful of rows, so that small examples exercise it."""
    monkeypatch.setattr(arm_module, "COARSE_ABOVE", 0)


def brute(rows, query):
    """rows: {node: (action, fingerprint)}; the expected packets (nodes), distances and ties."""
    arms: dict[str, list] = {}
    points = np.array([point for _, point in rows.values()], dtype=np.float64).reshape(
        len(rows), len(query.fingerprint)
    )
    measured = squared_distances(points, query.fingerprint.astype(np.float64)).tolist()
    for (node, (action, _)), d2 in zip(rows.items(), measured, strict=True):
        if (query.actions is None or action in query.actions) and np.sqrt(d2) <= query.bound(action):
            arm = action if query.per == "action" else ""
            arms.setdefault(arm, []).append((d2, identity_digest(NETWORK, node), node))
    packets, distances, tied = [], [], {}
    for name in sorted(arms):
        ordered = sorted(arms[name])
        last = ordered[: query.k][-1][0]
        tied[name] = sum(1 for d2, _, _ in ordered if d2 == last)
        packets += [node for _, _, node in ordered[: query.k]]
        distances += [d2 for d2, _, _ in ordered[: query.k]]
    return packets, distances, tied


def check(scan, rows, query):
    packets, distances, tied = brute(rows, query)
    got = scan.nearest(query)
    assert got.packets == packets
    assert got.distances2.tolist() == distances
    assert {name: n for name, n in got.tied.items() if n} == tied


def entry(node, action, point):
    return Entry(node, action, point.astype("<f4").tobytes(), node)


def fill(points, actions):
    scan, rows = Scan(NETWORK, points.shape[1]), {}
    for i, (point, action) in enumerate(zip(points, actions, strict=True)):
        node = i.to_bytes(4, "big")
        rows[node] = (action, point)
    scan.take(entry(node, *held) for node, held in rows.items())
    return scan, rows


cases = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "n": st.integers(1, 120),
        "d": st.integers(1, 40),
        "k": st.integers(1, 40),
        "offset": st.sampled_from([0.0, 1.0, 1e4, 1e7]),
        "scale": st.sampled_from([1e-6, 1e-3, 1.0, 1e3]),
        "distinct": st.sampled_from([1, 3, 1000]),
        "per": st.sampled_from(["action", "all"]),
        "bounded": st.booleans(),
    }
)


@given(cases)
def test_equals_brute_force(case):
    seed, n, d, k = (case[name] for name in ("seed", "n", "d", "k"))
    offset, scale, distinct, per = (case[name] for name in ("offset", "scale", "distinct", "per"))
    random = np.random.default_rng(seed)
    base = (offset + scale * random.normal(size=(min(n, distinct), d))).astype(np.float32)
    points = base[random.integers(0, len(base), n)]
    if seed % 5 == 0:
        points[0] += np.float32(1e6)  # a stray far from all others must not blunt the scan for them
    scan, rows = fill(points, random.choice(["", "a", "b"], n).tolist())
    near = points[random.integers(n)] if seed % 2 else (offset + scale * random.normal(size=d)).astype(np.float32)
    query = NearestQuery(near, k, per)
    check(scan, rows, query)
    if case["bounded"]:  # exactly a distance that occurs: inclusive
        within = float(np.sqrt(scan.nearest(query).distances2[0]))
        check(scan, rows, NearestQuery(near, k, per, within=within))
        check(scan, rows, NearestQuery(near, k, per, ("a",), {"a": within} if per == "action" else within))


@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["a", "b", None]), st.integers(-3, 3)), max_size=80))
def test_overwriting_and_removing_in_any_order(steps):
    scan, rows = Scan(NETWORK, 2), {}
    for node_number, action, x in steps:
        node = bytes([node_number])
        if action is None:
            scan.take([Entry(node, "", b"", b"")])
            rows.pop(node, None)
        else:
            point = np.array([x, node_number % 2], dtype=np.float32)
            scan.take([entry(node, action, point)])
            rows[node] = (action, point)
    assert len(scan) == len(rows)
    for per in ("action", "all"):
        check(scan, rows, NearestQuery(np.array([0.5, 0.0], dtype=np.float32), 3, per))
    census = scan.census()
    found = {n: (a, tuple(p)) for n, a, p in zip(census.nodes, census.actions, census.fingerprints, strict=True)}
    assert found == {node: (action, tuple(point)) for node, (action, point) in rows.items()}


def test_thousands_of_equal_fingerprints():
    points = np.repeat(np.arange(6, dtype=np.float32).reshape(3, 2), [9000, 60, 5], axis=0)
    scan, rows = fill(points, ["x"] * len(points))
    for k in (1, 50, 8999, 9000, 9001, 9065, 10_000):
        check(scan, rows, NearestQuery(np.array([0.1, 1.2], dtype=np.float32), k))


def test_an_empty_scan_answers_nothing():
    scan = Scan(NETWORK, 3)
    for per in ("action", "all"):
        assert scan.nearest(NearestQuery(np.zeros(3, dtype=np.float32), 5, per)).packets == []
    assert scan.census().fingerprints.shape == (0, 3)


def test_the_coarse_pass_needs_its_margin(monkeypatch):
    """Without the margin, data at an offset give wrong neighbours: so the margin is what makes it exact."""
    random = np.random.default_rng(3)
    points = (random.normal(size=(1500, 32)) * 0.01 + random.choice([0.0, 300.0], (1500, 1))).astype(np.float32)
    wrong = 0
    for margin in (True, False):
        scan, rows = fill(points, ["x"] * len(points))
        if not margin:
            scan._arms["x"]._coarse._margin = 0.0
        for i in range(20):
            query = NearestQuery(points[i] + np.float32(0.001), 20)
            try:
                check(scan, rows, query)
            except AssertionError:
                assert not margin
                wrong += 1
    assert wrong > 0
