"""Whatever the federation looks like: a complete answer is the brute-force answer, an incomplete one is bounded.

The federations are simulated (no sockets) but the regions, their wire form, tree, walk, plan, merge and
certificate are the real ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulated import Holder, Simulated
from regional.clustering import regions_of
from registry.geometry.region import Region, squared_distances

ACTIONS = ("a", "b", "c")


def cluster(fingerprints: np.ndarray, actions: Sequence[str]) -> Sequence[Region]:
    return regions_of(fingerprints, actions, min_cohort=1, max_regions=8)[0]


@st.composite
def federations(draw: st.DrawFn) -> tuple[Simulated, np.random.Generator]:
    """2 to 8 networks of 0 to 60 packets, continuous or on a coarse grid (many ties), evenly mixed or by kind."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    d = draw(st.integers(1, 6))
    grid = draw(st.sampled_from([None, 1.0, 0.5]))
    apart = draw(st.sampled_from([0.0, 5.0]))
    rare = draw(st.booleans())
    holders = []
    for number in range(draw(st.integers(2, 8))):
        n = draw(st.integers(1, 60))
        points = random.normal(size=(n, d)) + apart * random.normal(size=d)
        if grid:
            points = np.round(points / grid) * grid
        weights = [0.6, 0.38, 0.02] if rare else [1 / 3] * 3
        actions = random.choice(ACTIONS, size=n, p=weights).tolist()
        holders.append(Holder(f"n{number}", points.astype(np.float32), actions))
    return Simulated(holders, cluster, ACTIONS), random


@settings(max_examples=60, deadline=None)
@given(federations(), st.integers(1, 30), st.sampled_from(["action", "all"]))
def test_exact_is_brute_force(made: tuple[Simulated, np.random.Generator], k: int, per: str) -> None:
    federation, random = made
    query = random.normal(size=next(iter(federation.holders.values())).fingerprints.shape[1]).astype(np.float32)
    asked = federation.ask(query, k, per)
    assert asked.certificate.neighbours_complete
    assert [(each.network, each.packet.node) for each in asked.neighbours] == federation.truth(query, k, per)


@settings(max_examples=60, deadline=None)
@given(federations(), st.integers(1, 30), st.sampled_from(["action", "all"]), st.data())
def test_a_broken_network_bounds_the_certificate(
    made: tuple[Simulated, np.random.Generator], k: int, per: str, data: st.DataObject
) -> None:
    federation, random = made
    broken = frozenset(data.draw(st.sets(st.sampled_from(sorted(federation.holders)), min_size=1)))
    query = random.normal(size=next(iter(federation.holders.values())).fingerprints.shape[1]).astype(np.float32)
    asked = federation.ask(query, k, per, broken=broken)
    check_against_truth(federation, query, k, per, asked)
    assert {each.network for each in asked.certificate.missing} <= broken


@settings(max_examples=40, deadline=None)
@given(federations(), st.integers(1, 30), st.data())
def test_an_unresolved_cell_bounds_the_certificate(
    made: tuple[Simulated, np.random.Generator], k: int, data: st.DataObject
) -> None:
    federation, random = made
    unopened = frozenset(data.draw(st.sets(st.sampled_from(sorted(federation.cells)), min_size=1, max_size=3)))
    query = random.normal(size=next(iter(federation.holders.values())).fingerprints.shape[1]).astype(np.float32)
    check_against_truth(federation, query, k, "action", federation.ask(query, k, "action", unopened=unopened))


def check_against_truth(federation: Simulated, query: np.ndarray, k: int, per: str, asked: object) -> None:
    """Complete means equal to brute force; incomplete means that everything nearer than complete_within is there."""
    got = [(each.network, each.packet.node) for each in asked.neighbours]
    truth = federation.truth(query, k, per)
    certificate = asked.certificate
    if certificate.neighbours_complete:
        assert got == truth
        return
    assert certificate.missing
    within = certificate.complete_within
    for network, node in truth:
        row = int.from_bytes(node, "big")
        point = federation.holders[network].fingerprints[row : row + 1].astype(np.float64)
        distance = float(np.sqrt(squared_distances(point, query.astype(np.float64))[0]))
        if (network, node) not in got:
            assert within is not None
            assert distance >= within
            assert any(each.lower_bound <= distance for each in certificate.missing)


@pytest.mark.parametrize("per", ["action", "all"])
def test_thousands_of_identical_fingerprints(per: str) -> None:
    points = np.zeros((700, 3), dtype=np.float32)
    holders = [Holder(name, points, ["a", "b"] * 350) for name in ("x", "y", "z")]
    federation = Simulated(holders, cluster, ("a", "b"))
    asked = federation.ask(np.zeros(3, dtype=np.float32), 20, per)
    assert asked.certificate.neighbours_complete
    assert [(each.network, each.packet.node) for each in asked.neighbours] == federation.truth(points[0], 20, per)


def test_arms_that_live_in_different_places_on_a_deep_tree() -> None:
    random = np.random.default_rng(5)
    homes = {"a": -3.0, "b": 0.0, "c": 3.0}
    holders = []
    for number in range(12):
        actions = random.choice(ACTIONS, size=300).tolist()
        points = np.round(random.normal(size=(300, 3)) * 2) / 2 + np.array(
            [[homes[action], 0, 0] for action in actions]
        )
        holders.append(Holder(f"n{number}", points.astype(np.float32), actions))
    federation = Simulated(holders, cluster, ACTIONS)
    assert len(federation.cells) > 5
    for _ in range(25):
        query = (random.normal(size=3) * 2).astype(np.float32)
        asked = federation.ask(query, 40)
        assert asked.certificate.neighbours_complete
        assert [(each.network, each.packet.node) for each in asked.neighbours] == federation.truth(query, 40)


def test_equals_of_the_kth_are_not_certified_as_nearer() -> None:
    """With ties at the K-th place, what is certified must end before them: some of them are absent."""
    points = np.full((60, 2), 0.3, dtype=np.float32)
    federation = Simulated([Holder(name, points, ["a"] * 60) for name in ("x", "y")], cluster, ("a",))
    asked = federation.ask(np.zeros(2, dtype=np.float32), 10)
    within = asked.certificate.complete_within
    assert asked.certificate.neighbours_complete
    assert within is not None
    assert 0 < within < asked.neighbours[-1].distance2 ** 0.5
