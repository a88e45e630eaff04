"""The plan: what it hands out, and when; the certificate where nothing could be opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks.simulated import Holder, Simulated
from gateway.certificate import Certificate, certify
from gateway.disposition import Disposition, Outcome
from gateway.planning.cell import Cell
from gateway.planning.merge import Merge
from gateway.planning.plan import Ask, Plan, Steps
from gateway.planning.resolution import Walk
from regional.clustering import regions_of
from regional.packets.batch import Batch
from registry.geometry.cell import CellRecord
from registry.geometry.region import Region

K = 20


def cluster(fingerprints: np.ndarray, actions: Sequence[str]) -> Sequence[Region]:
    return regions_of(fingerprints, actions, min_cohort=1, max_regions=8)[0]


@pytest.fixture(scope="module")
def federation() -> Simulated:
    random = np.random.default_rng(3)
    holders = [
        Holder(f"n{i}", (random.normal(size=(200, 4)) + 2 * random.normal(size=4)).astype(np.float32), [""] * 200)
        for i in range(16)
    ]
    return Simulated(holders, cluster, ())


def test_past_the_soft_deadline_every_cell_is_handed_out_once(federation: Simulated) -> None:
    walk, merge = Walk(np.zeros(4), ("",)), Merge(np.zeros(4), K, ("",))
    plan = Plan(walk, merge, K, ("",))
    opened: Counter[tuple[int, ...]] = Counter()
    asked: Counter[str] = Counter()
    for _ in range(100):
        steps = plan.next(soft=True)
        opened.update(steps.open)
        asked.update(ask.network for ask in steps.ask)
        if not steps.open and not steps.ask:
            break
        for address in steps.open:
            plan.cell_done(address)
        walk.opened([(address, federation.cells[address]) for address in steps.open])
        for ask in steps.ask:
            plan.network_done(ask.network, answered=False)
    assert opened
    assert max(opened.values()) == 1
    assert set(asked) == set(federation.holders), "nobody answered, so everybody had to be asked"
    assert max(asked.values()) == 1


def test_no_wave_waits_for_its_slowest() -> None:
    """With one network of the first wave silent, what is surely needed is asked all the same."""
    random = np.random.default_rng(4)
    places = (random.normal(size=(48, 40, 6)) + 1.2 * random.normal(size=(48, 1, 6))).astype(np.float32)
    holders = [Holder(f"n{i:02}", points, [""] * 40) for i, points in enumerate(places)]
    federation = Simulated(holders, cluster, ())
    query = np.zeros(6)
    walk, merge = Walk(query, ("",)), Merge(query, K, ("",))
    plan = Plan(walk, merge, K, ("",))

    def take(steps: Steps) -> list[str]:
        while steps.open:
            for address in steps.open:
                plan.cell_done(address)
                walk.opened([(address, federation.cells[address])])
            asked = [ask.network for ask in steps.ask]
            steps = plan.next(soft=False)
            steps.ask = [*(Ask(name, {}) for name in asked), *steps.ask]
        return [ask.network for ask in steps.ask]

    silent, *answering = take(plan.next(soft=False))
    assert answering
    asked = {silent, *answering}
    while answering:
        network = answering.pop()
        found = federation.pool.reply(network, query, K, ("",), {})
        merge.add(network, Batch.of_packets(found), {})
        plan.network_done(network, answered=True)
        more = take(plan.next(soft=False))
        asked.update(more)
        answering += more
    radius = float(merge.radius()[0])
    assert np.isfinite(radius)
    standing = plan.standing()
    near = {standing.names[row] for row in np.flatnonzero(standing.lower[:, 0] <= 0.8 * radius)}
    assert near <= asked


def test_what_is_opened_while_a_wave_is_out_can_be_asked_at_once() -> None:
    """The outlook is of before the wave, the networks are of now."""

    def cell(**at: float) -> Cell:
        centres = {name: np.array([distance, 0.0]) for name, distance in at.items()}
        regions = [
            Region(name, {"": 20}, centre, 0.1, centre - 0.1, centre + 0.1, np.full(2, 0.002))
            for name, centre in centres.items()
        ]
        return Cell([CellRecord(region, network=region.id) for region in regions], 2)

    points = (np.array([1.0, 0.0]) + np.linspace(0.0, 0.1, 40)[:, None]).astype(np.float32)
    holders = Simulated([Holder("a", points, [""] * 40)], cluster, ())
    walk, merge = Walk(np.zeros(2), ("",)), Merge(np.zeros(2), 30, ("",))
    plan = Plan(walk, merge, 30, ("",))
    walk.opened([((), cell(a=0.3, b=0.4))])
    assert {ask.network for ask in plan.next(soft=False).ask} == {"a", "b"}
    merge.add("a", Batch.of_packets(holders.pool.reply("a", np.zeros(2), 30, ("",), {})), {})
    plan.network_done("a", answered=True)
    walk.opened([((0,), cell(c=0.2))])
    assert [ask.network for ask in plan.next(soft=False).ask] == ["c"]


def judged(walk: Walk, **changes: object) -> Certificate:
    plan = Plan(walk, Merge(np.zeros(4), K, ("",)), K, ("",))
    given: dict[str, object] = {
        "walk": walk,
        "standing": plan.standing(),
        "outcomes": {},
        "truncated": {},
        "radius": np.array([np.inf]),
        "arms": ("",),
        "k": K,
        "nobody_covers": False,
        "as_of": 7,
        "stale": False,
        "coverage": [],
    }
    return certify(**{**given, **changes})  # type: ignore[arg-type]


def test_where_the_root_was_never_opened_nothing_is_complete() -> None:
    certificate = judged(Walk(np.zeros(4), ("",)))
    assert not certificate.neighbours_complete
    assert certificate.complete_within == 0.0
    assert [(each.cell, each.disposition) for each in certificate.missing] == [("", "unopened")]
    walk = Walk(np.zeros(4), ("",))
    walk.could_not_open((), "SERVFAIL")
    assert judged(walk).missing[0].disposition == "unresolved"


def test_where_nobody_covers_nothing_is_complete() -> None:
    certificate = judged(Walk(np.zeros(4), ("",)), nobody_covers=True)
    assert not certificate.neighbours_complete
    assert certificate.complete_within == 0.0
    assert not certificate.missing


def test_at_most_never_rests_on_counts(federation: Simulated) -> None:
    """Deposits since may have made a count too small: a silent network could have held K of each arm."""
    walk = Walk(np.zeros(4), ("",))
    for address in sorted(federation.cells, key=len):
        walk.opened([(address, federation.cells[address])])
    outcomes = {name: Outcome(Disposition.TIMED_OUT, "silent", 1.0) for name in federation.holders}
    certificate = judged(walk, outcomes=outcomes, k=1000)
    assert {each.network for each in certificate.missing} == set(federation.holders)
    assert {each.at_most for each in certificate.missing} == {1000}


def test_what_is_certain_is_opened_without_an_outlook(federation: Simulated) -> None:
    """The cells that are opened beforehand are some of those that would be opened anyway, the root not alone."""
    random = np.random.default_rng(8)
    beforehand = 0
    for _ in range(20):
        query = random.normal(size=4) * 2.0
        opened: list[set[tuple[int, ...]]] = []
        for ahead in (False, True):
            walk, merge = Walk(query, ("",)), Merge(query, K, ("",))
            plan = Plan(walk, merge, K, ("",))
            done: set[tuple[int, ...]] = set()
            while cells := (certain := plan.certain() if ahead else []) or plan.next(soft=False).open:
                for address in cells:
                    plan.cell_done(address)
                walk.opened([(address, federation.cells[address]) for address in cells])
                done.update(cells)
                beforehand += len(certain)
            opened.append(done)
        assert opened[0] == opened[1]
    assert beforehand > 20


def test_what_is_stale_of_unknown_age_or_of_times_too_far_apart_is_never_complete(federation: Simulated) -> None:
    walk = Walk(np.zeros(4), ("",))
    for address in sorted(federation.cells, key=len):
        walk.opened([(address, federation.cells[address])])
    outcomes = {name: Outcome(Disposition.ANSWERED) for name in federation.holders}
    assert judged(walk, outcomes=outcomes).neighbours_complete
    for change in ({"stale": True}, {"as_of": 0}, {"apart": True}):
        assert not judged(walk, outcomes=outcomes, **change).neighbours_complete
    assert judged(walk, outcomes=outcomes, as_of=0).document()["as_of"] is None
