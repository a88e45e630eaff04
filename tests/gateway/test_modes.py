"""Every mode is honest: what it promises to stop at, what it says of what it left out, and bad input.

As in test_exactness, the federations are simulated and the decisions are the real ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulated import Holder, Simulated
from gateway.planning.cell import Cell
from gateway.planning.merge import Merge
from gateway.planning.plan import Plan
from gateway.planning.resolution import Walk
from gateway.question import Budget, Mode, Question, Recall
from registry.errors import QuestionError
from registry.geometry.cell import CellRecord
from registry.geometry.region import Region
from tests.gateway.test_exactness import ACTIONS, check_against_truth, cluster, federations

MODES: st.SearchStrategy[Mode] = st.one_of(
    st.builds(Recall, recall=st.floats(0.01, 0.999)), st.builds(Budget, budget=st.integers(1, 12))
)


def question_for(federation: Simulated, random: np.random.Generator) -> np.ndarray:
    return random.normal(size=federation.pool.fingerprints.shape[1]).astype(np.float32)


@settings(max_examples=50, deadline=None)
@given(federations(), st.integers(1, 30), st.sampled_from(["action", "all"]), MODES, st.data())
def test_what_a_mode_leaves_out_bounds_the_certificate(
    made: tuple[Simulated, np.random.Generator], k: int, per: str, mode: Mode, data: st.DataObject
) -> None:
    federation, random = made
    broken = frozenset(data.draw(st.sets(st.sampled_from(sorted(federation.holders)), max_size=2)))
    query = question_for(federation, random)
    asked = federation.ask(query, k, per, mode, broken=broken)
    check_against_truth(federation, query, k, per, asked)
    for missing in asked.certificate.missing:
        assert missing.disposition in ("unasked", "unopened", "failed")
        assert missing.disposition != "unasked" or missing.network not in asked.asked
    assert asked.expected_recall is not None
    assert 0.0 <= asked.expected_recall <= 1.0
    if isinstance(mode, Budget):
        assert len(asked.asked) <= mode.budget
    elif not broken:
        assert asked.expected_recall >= mode.recall - 1e-9


@settings(max_examples=25, deadline=None)
@given(federations(), st.integers(1, 30), st.sampled_from(["action", "all"]))
def test_a_budget_of_more_than_there_are_is_exact(
    made: tuple[Simulated, np.random.Generator], k: int, per: str
) -> None:
    federation, random = made
    query = question_for(federation, random)
    asked = federation.ask(query, k, per, Budget(budget=1000))
    assert asked.certificate.neighbours_complete
    assert [(each.network, each.packet.node) for each in asked.neighbours] == federation.truth(query, k, per)


def test_a_budget_takes_the_most_promising() -> None:
    random = np.random.default_rng(3)
    holders = [
        Holder(f"n{number}", (random.normal(size=(200, 3)) + 2.0 * number).astype(np.float32), [""] * 200)
        for number in range(8)
    ]
    federation = Simulated(holders, cluster, ())
    asked = federation.ask(np.full(3, 8.0, dtype=np.float32), 20, "all", Budget(budget=1))
    assert asked.asked == {"n4"}


def specialised(networks: int = 24, rows: int = 150) -> Simulated:
    random = np.random.default_rng(11)
    centres = random.normal(size=(networks // 2, 6)) * 2.0
    return Simulated(
        [
            Holder(f"n{n}", (random.normal(size=(rows, 6)) + centres[n // 2]).astype(np.float32), [""] * rows)
            for n in range(networks)
        ],
        cluster,
        (),
    )


def test_recall_is_about_what_it_states_and_cheaper_than_exact() -> None:
    federation = specialised()
    random = np.random.default_rng(12)
    found, stated, asked, exact = [], [], 0, 0
    for _ in range(60):
        query = (random.normal(size=6) * 1.5).astype(np.float32)
        answer = federation.ask(query, 25, "all", Recall(recall=0.95))
        truth = set(federation.truth(query, 25, "all"))
        found.append(len(truth & {(each.network, each.packet.node) for each in answer.neighbours}) / 25)
        stated.append(answer.expected_recall or 0.0)
        asked += len(answer.asked)
        exact += len(federation.ask(query, 25, "all").asked)
    assert np.mean(found) >= 0.95
    assert abs(np.mean(found) - np.mean(stated)) < 0.03
    assert asked < 0.9 * exact


def test_a_failure_lowers_the_expected_recall() -> None:
    federation = specialised()
    query = np.zeros(6, dtype=np.float32)
    whole = federation.ask(query, 25, "all")
    best = whole.neighbours[0].network
    without = federation.ask(query, 25, "all", broken=frozenset({best}))
    assert whole.expected_recall == 1.0
    assert without.expected_recall is not None
    assert without.expected_recall < 1.0


def region(name: str, points: np.ndarray, count: int) -> Region:
    centre = points.mean(axis=0)
    return Region(
        id=name,
        counts={"": count},
        centre=centre,
        radius=float(np.sqrt(((points - centre) ** 2).sum(axis=1).max())) * (1 + 1e-9),
        lo=points.min(axis=0),
        hi=points.max(axis=0),
        var=points.var(axis=0),
    )


@pytest.mark.parametrize("mode", ["exact", Recall(recall=0.9), Budget(budget=6)])
@pytest.mark.parametrize("factor", [0.02, 50.0, 1e9])
def test_counts_that_lie_cost_requests_not_truth(mode: Mode, factor: float) -> None:
    """One network says far fewer or far more than it holds; the others are honest."""
    random = np.random.default_rng(17)
    points = [random.normal(size=(80, 2)) + 0.3 * number for number in range(6)]

    def lying(fingerprints: np.ndarray, actions: Sequence[str]) -> list[Region]:
        told = max(1, int(len(actions) * factor)) if np.array_equal(fingerprints, holders[2].fingerprints) else None
        return [region("r0", fingerprints.astype(np.float64), told or len(actions))]

    holders = [Holder(f"n{n}", each.astype(np.float32), [""] * 80) for n, each in enumerate(points)]
    federation = Simulated(holders, lying, ())
    for _ in range(10):
        query = random.normal(size=2).astype(np.float32)
        asked = federation.ask(query, 20, "all", mode)
        check_against_truth(federation, query, 20, "all", asked)
        if mode == "exact":
            assert asked.certificate.neighbours_complete


@pytest.mark.parametrize("mode", ["exact", Recall(recall=0.99), Budget(budget=2)])
def test_thousands_of_identical_fingerprints(mode: Mode) -> None:
    points = np.zeros((2000, 3), dtype=np.float32)
    federation = Simulated([Holder(name, points, ["a", "b"] * 1000) for name in ("x", "y", "z")], cluster, ("a", "b"))
    asked = federation.ask(np.zeros(3, dtype=np.float32), 20, "action", mode)
    check_against_truth(federation, points[0], 20, "action", asked)
    assert len(asked.neighbours) == 40
    assert all(each.distance2 == 0.0 for each in asked.neighbours)


@pytest.mark.parametrize("mode", ["exact", Recall(recall=0.5), Budget(budget=1)])
def test_regions_without_width(mode: Mode) -> None:
    """Each region is one point: distances are known before anybody is asked."""
    random = np.random.default_rng(23)
    holders = [Holder(f"n{n}", random.normal(size=(5, 4)).astype(np.float32), list("abcab")) for n in range(7)]
    federation = Simulated(
        holders,
        lambda points, actions: [
            Region(f"r{i}", {actions[i]: 1}, point, 0.0, point, point, np.zeros(4))
            for i, point in enumerate(points.astype(np.float64))
        ],
        ACTIONS,
    )
    query = random.normal(size=4).astype(np.float32)
    asked = federation.ask(query, 3, "action", mode)
    check_against_truth(federation, query, 3, "action", asked)


@pytest.mark.parametrize("mode", ["exact", Recall(recall=0.5), Budget(budget=3)])
def test_an_empty_domain_asks_nobody(mode: Mode) -> None:
    walk, merge = Walk(np.zeros(2), ("",)), Merge(np.zeros(2), 5, ("",))
    plan = Plan(walk, merge, 5, ("",), mode)
    assert plan.next(soft=False).open == [()]
    plan.cell_done(())
    walk.opened([((), Cell((), 2))])
    assert not plan.next(soft=False).open
    assert not plan.asked
    assert plan.expected_recall() == 1.0
    assert plan.forecast().networks == 0


def test_an_unresolved_root_promises_nothing() -> None:
    walk, merge = Walk(np.zeros(2), ("",)), Merge(np.zeros(2), 5, ("",))
    plan = Plan(walk, merge, 5, ("",), Recall(recall=0.9))
    plan.next(soft=False)
    plan.cell_done(())
    walk.could_not_open((), "simulated")
    assert not plan.next(soft=False).open
    assert plan.expected_recall() is None


@settings(max_examples=20, deadline=None)
@given(federations(), st.integers(1, 20))
def test_exact_asks_about_as_many_as_forecast(made: tuple[Simulated, np.random.Generator], k: int) -> None:
    federation, random = made
    query = question_for(federation, random).astype(np.float64)
    walk, merge = Walk(query, ("",)), Merge(query, k, ("",))
    plan = Plan(walk, merge, k, ("",))
    while wanted := plan.next(soft=False).open:
        for address in wanted:
            plan.cell_done(address)
        walk.opened([(address, federation.cells[address]) for address in wanted])
    forecast = plan.forecast()
    assert forecast.cells == walk.cells_opened
    assert 1 <= forecast.networks <= forecast.met <= len(federation.holders)


def test_the_other_modes_forecast_less() -> None:
    federation = specialised()
    query = np.full(6, 0.5)
    networks = []
    for mode in ("exact", Recall(recall=0.9), Budget(budget=2)):
        walk = Walk(query, ("",))
        plan = Plan(walk, Merge(query, 25, ("",)), 25, ("",), mode)
        while wanted := plan.next(soft=False).open:
            for address in wanted:
                plan.cell_done(address)
            walk.opened([(address, federation.cells[address]) for address in wanted])
        networks.append(plan.forecast().networks)
    exact, recall, budget = networks
    assert 2 == budget <= recall < exact
    assert recall > 2


def test_an_address_is_asked_once_and_soft_does_not_wait() -> None:
    """After the soft deadline the rest is asked, although the first wave has not answered."""
    far = [np.array([[8.0 * n, 0.0], [8.0 * n + 1, 0.0]]) for n in range(3)]
    records = [CellRecord(region(f"r{n}", each, 2), network=f"n{n}") for n, each in enumerate(far)]
    walk, merge = Walk(np.zeros(2), ("",)), Merge(np.zeros(2), 3, ("",))
    plan = Plan(walk, merge, 3, ("",))
    plan.next(soft=False)
    plan.cell_done(())
    walk.opened([((), Cell(records, 2))])
    first = [ask.network for ask in plan.next(soft=False).ask]
    assert first[0] == "n0"
    assert not plan.next(soft=False).ask
    rest = [ask.network for ask in plan.next(soft=True).ask]
    assert sorted(first + rest) == ["n0", "n1", "n2"]


@pytest.mark.parametrize("mode", [{"recall": 0}, {"recall": 1}, {"recall": 1.5}, {"budget": 0}, {"budget": 1.5}])
def test_a_mode_out_of_range_says_what_would_be_right(mode: dict[str, float]) -> None:
    with pytest.raises(QuestionError, match=r"recall.*above 0 and below 1|budget.*at least 1"):
        Question.from_document({"domain": "d", "situation": {}, "mode": mode})
