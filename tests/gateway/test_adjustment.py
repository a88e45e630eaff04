"""The bias-reduced estimate: what it removes, that it does not depend on who keeps which node, what the whole says."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from gateway.planning.neighbours import Neighbours
from gateway.statistics.adjustment import as_proportion
from gateway.statistics.contrast import FROM_WHOLE, NOT_FROM_WHOLE
from gateway.statistics.difference import NOT_AFTER_ADJUSTMENT, NOT_DISTINGUISHABLE
from gateway.statistics.interval import LEVEL, normal_quantile, wilson
from gateway.statistics.kernel import kernel_weights
from gateway.statistics.standpoint import FEW_IN_TABLES, NO_FEATURES, NO_TABLES, NOT_FOR_DURATIONS, Standpoint
from gateway.statistics.synthesis import synthesise
from gateway.statistics.whole import Whole
from regional.moments import FOLDS, fold_of
from regional.momenttable import MomentTable, nodes_of
from registry.likeness.schema import Schema

DOCUMENT: dict[str, Any] = {
    "title": "t", "study": "observational", "release": "packets", "min_cohort": 1, "bandwidth_floor": 0.01,
    "actions": {"a": "a", "b": "b"},
    "features": {
        name: {"kind": "number", "label": name, "unit": "m", "scale": 1, "range": [-50, 50]} for name in ("u", "v", "w")
    },
    "adjust_for": ["u", "v"],
    "outcomes": {
        "yield": {"kind": "number", "label": "yield", "unit": "kg"},
        "dead": {"kind": "binary", "label": "dead"},
        "time": {"kind": "duration", "label": "time", "unit": "days"},
        "harm": {"kind": "ordinal", "label": "harm", "levels": ["none", "some", "all"]},
    },
}  # fmt: skip
SCHEMA = Schema.from_document(DOCUMENT, "t")
QUERY = np.array([2.0, -1.0, 0.0])


class People:
    """n nodes, sicker ones in arm a; `effect` is what a adds to the yield, `slope` what u and v do."""

    def __init__(self, n: int, seed: int, effect: float = 0.0, slope: float = 3.0) -> None:
        rng = np.random.default_rng(seed)
        self.x = rng.normal(0, 1.5, (n, 3)).astype(np.float32).astype(np.float64)
        self.action = np.where(rng.random(n) < 1 / (1 + np.exp(-self.x[:, 0])), "a", "b")
        mean = 10 + slope * self.x[:, 0] + slope * self.x[:, 1] + effect * (self.action == "a")
        risk = np.clip(0.4 + 0.08 * self.x[:, 0], 0, 1)
        self.weight = rng.uniform(0.5, 2, n)
        self.ids = [f"node-{i}".encode() for i in range(n)]
        self.outcomes: list[dict[str, Any]] = [
            {
                "yield": float(each + rng.normal(0, 1)),
                "dead": float(rng.random() < p),
                "time": (float(rng.integers(1, 99)), True),
                "harm": float(np.clip(round(1 + 0.4 * (each - 10) / 3 + rng.normal(0, 0.5)), 0, 2)),
            }
            for each, p in zip(mean, risk, strict=True)
        ]

    def table(self, rows: np.ndarray, schema: Schema = SCHEMA) -> MomentTable:
        at = rows.tolist()
        nodes = nodes_of(
            self.x[at], [self.ids[i] for i in at], self.action[at].tolist(), self.weight[at],
            [self.outcomes[i] for i in at],
        )  # fmt: skip
        return MomentTable.of(schema, nodes, 1)

    def whole(self, networks: int = 1, schema: Schema = SCHEMA) -> Whole:
        owner = np.random.default_rng(networks).integers(0, networks, len(self.x))
        tables = {f"net-{each}": self.table(np.flatnonzero(owner == each), schema) for each in range(networks)}
        return Whole.of(tables, schema.adjusted, {})

    def nearest(self, k: int, query: np.ndarray = QUERY) -> Neighbours:
        distance = np.sqrt(((self.x - query) ** 2).sum(axis=1))
        rows = np.concatenate(
            [np.flatnonzero(self.action == each)[np.argsort(distance[self.action == each])[:k]] for each in "ab"]
        )
        at = rows.tolist()
        return Neighbours(
            distance[at], self.x[at], tuple(self.action[at].tolist()), ("north",) * len(at),
            tuple(self.ids[i] for i in at), self.weight[at], tuple(self.outcomes[i] for i in at),
            np.ones(len(at), np.int64), k, "action", {},
        )  # fmt: skip


def synthesis(of: Neighbours, whole: Whole | None, query: np.ndarray = QUERY) -> Any:
    document = synthesise(of, SCHEMA.outcomes, ("a", "b"), "observational", 0.01, standpoint=Standpoint(query, whole))
    return json.loads(json.dumps(document, allow_nan=False))


def test_what_a_line_explains_is_not_left_as_bias() -> None:
    people, query = People(3000, 1), np.array([2.0, 1.5, 0.0])
    found = synthesis(people.nearest(200, query), people.whole(), query)["yield"]
    truth = 10 + 3 * query[0] + 3 * query[1]
    for arm in found["actions"].values():
        assert abs(arm["estimate"] - truth) > 1.0  # the neighbours lie towards the middle
        assert arm["adjusted"]["estimate"] == pytest.approx(truth, abs=0.3)
        assert arm["adjusted"]["high"] - arm["adjusted"]["low"] < 0.5
        assert arm["predicted"]["low"] < truth - 1.5 < truth + 1.5 < arm["predicted"]["high"]


def test_each_neighbour_is_moved_along_a_line_drawn_without_its_fold() -> None:
    people = People(1200, 2, slope=1.0)
    whole = people.whole()
    near = people.nearest(60)
    found = synthesis(near, whole)["yield"]["actions"]["a"]
    fold = np.array([fold_of(each) for each in people.ids])
    arm = [i for i, action in enumerate(near.action) if action == "a"]
    slopes = {}
    for each in range(FOLDS):
        rows = np.flatnonzero((people.action == "a") & (fold != each))
        y = np.array([people.outcomes[i]["yield"] for i in rows])
        slopes[each] = LinearRegression().fit(people.x[rows, :2], y, sample_weight=people.weight[rows]).coef_
    distance = near.distance[arm]
    weight = kernel_weights(distance, distance.max(), 0.01) * near.weight[arm]
    moved = [
        near.outcomes[i]["yield"] - (near.points[i, :2] - QUERY[:2]) @ slopes[fold_of(near.node[i])]  # type: ignore[operator]
        for i in arm
    ]
    # The penalty is small here, but there is one.
    assert found["adjusted"]["estimate"] == pytest.approx(np.average(moved, weights=weight), rel=2e-3)


def test_what_depends_on_no_question_is_made_once() -> None:
    whole = People(900, 3).whole(7)
    assert whole.total("a", "yield") is not None
    assert whole.everyone("yield") is not None
    assert whole.line("a", "yield") is not None
    assert whole.total("a", "yield") is whole.total("a", "yield") is not whole.total("b", "yield")
    assert whole.everyone("yield") is whole.everyone("yield") is not whole.total("a", "yield")
    assert whole.line("a", "yield") is whole.line("a", "yield") is not whole.line("b", "yield")
    assert whole.lines("a", "yield") is whole.lines("a", "yield")


@pytest.mark.parametrize("networks", [2, 7, 40])
def test_k_networks_say_what_one_pooled_network_says(networks: int) -> None:
    people = People(900, 3)
    near = people.nearest(50)
    one, many = synthesis(near, people.whole(1)), synthesis(near, people.whole(networks))
    for name, outcome in one.items():
        other = many[name]
        for action, arm in outcome["actions"].items():
            for part in ("adjusted", "whole"):
                assert (arm[part] is None) == (other["actions"][action][part] is None)
                for key, value in (arm[part] or {}).items():
                    same = other["actions"][action][part][key]
                    assert same == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value)
        for pair, same in zip(outcome["differences"], other["differences"], strict=True):
            assert same["adjusted"] == (None if pair["adjusted"] is None else pytest.approx(pair["adjusted"], rel=1e-9))


def test_a_difference_that_adjustment_takes_away_is_none() -> None:
    """u raises the yield, and who has more of u gets a; a itself does nothing."""
    people = People(4000, 4, effect=0.0)
    pair = synthesis(people.nearest(600), people.whole())["yield"]["differences"][0]
    assert pair["low"] > 0.0
    assert pair["adjusted"]["low"] < 0.0 < pair["adjusted"]["high"]
    assert pair["verdict"] == NOT_DISTINGUISHABLE
    assert pair["note"] == NOT_AFTER_ADJUSTMENT
    assert pair["whole"]["low"] > 1.0  # so says the whole, too, unadjusted
    assert pair["whole"]["adjusted"]["low"] < 0.0 < pair["whole"]["adjusted"]["high"]
    assert pair["detectable"] > 0.0


def test_a_difference_that_is_there_stays() -> None:
    people = People(4000, 5, effect=2.0)
    pair = synthesis(people.nearest(300), people.whole())["yield"]["differences"][0]
    assert pair["adjusted"]["low"] < 2.0 < pair["adjusted"]["high"]
    assert pair["whole"]["adjusted"]["low"] < 2.0 < pair["whole"]["adjusted"]["high"]
    assert pair["verdict"].startswith("differs")


def test_the_neighbourhood_beside_the_whole() -> None:
    people = People(3000, 6)
    whole = people.whole()
    near = synthesis(people.nearest(80), whole)["yield"]
    assert near["distinct"] == FROM_WHOLE
    rows = people.action == "a"
    y = np.array([each["yield"] for each in people.outcomes])
    everywhere = near["actions"]["a"]["whole"]
    assert everywhere["n"] == rows.sum()
    assert everywhere["estimate"] == pytest.approx(np.average(y[rows], weights=people.weight[rows]), rel=1e-12)
    flat = People(3000, 7, slope=0.0)
    assert synthesis(flat.nearest(80), flat.whole())["yield"]["distinct"] == NOT_FROM_WHOLE


def test_binaries_and_ordinals_are_adjusted_and_stay_in_their_range() -> None:
    people = People(2000, 8)
    far = np.array([40.0, 0.0, 0.0])  # the line leads far beyond 1 and beyond the last level
    for query in (QUERY, far):
        found = synthesis(people.nearest(100), people.whole(), query)
        for name, top in (("dead", 1.0), ("harm", 2.0)):
            for arm in found[name]["actions"].values():
                assert 0.0 <= arm["adjusted"]["estimate"] <= top
        for arm in found["dead"]["actions"].values():
            assert 0.0 <= arm["adjusted"]["low"] <= arm["adjusted"]["estimate"] <= arm["adjusted"]["high"] <= 1.0


@given(st.floats(0.0, 2.0), st.floats(0.001, 1.0))
def test_a_share_that_a_line_leads_beyond_0_or_1_is_as_unsure_as_the_line(beyond: float, se: float) -> None:
    """A line that leads to 1.2, give or take 0.2, does not say that nobody was spared among any number."""
    end = beyond - normal_quantile(LEVEL) * se  # of the line's interval, counted from where shares end
    for value, far in ((1.0 + beyond, "low"), (-beyond, "high")):
        share = as_proportion(value, se, 50.0)
        interval = share.interval(LEVEL)
        assert share.value == (1.0 if value > 0.5 else 0.0)
        reached = 1.0 - interval.low if far == "low" else interval.high
        wanted = wilson(0.0, 50.0, LEVEL).high if end >= 0.0 else min(-end, 1.0)
        assert reached == pytest.approx(wanted, abs=1e-6)


@given(st.floats(0.2, 0.8), st.floats(0.01, 0.1))
def test_a_share_in_the_middle_has_the_lines_standard_error(value: float, se: float) -> None:
    share = as_proportion(value, se, 50.0)
    assert share.value * (1.0 - share.value) / share.n_eff == pytest.approx(se * se)


def test_why_there_is_no_adjusted_estimate_is_told() -> None:
    people = People(600, 9)
    near = people.nearest(40)
    assert synthesis(near, None)["yield"]["adjustment"]["note"] == NO_TABLES
    assert synthesis(near, people.whole())["time"]["adjustment"]["note"] == NOT_FOR_DURATIONS
    bare = Schema.from_document({**DOCUMENT, "adjust_for": []}, "t")
    told = synthesis(near, people.whole(schema=bare))["yield"]
    assert told["adjustment"]["note"] == NO_FEATURES
    assert told["actions"]["a"]["whole"]["n"] > 0  # the whole is known all the same
    few = People(30, 10)
    assert synthesis(few.nearest(15), few.whole())["yield"]["adjustment"]["note"] == FEW_IN_TABLES
    assert synthesis(near, people.whole())["yield"]["adjustment"]["note"] is None


def test_the_farther_a_line_leads_the_less_it_is_sure() -> None:
    people = People(300, 11)
    near, whole = people.nearest(50), people.whole()
    widths = []
    for u in (2.0, 20.0, 40.0):
        moved = synthesis(near, whole, np.array([u, -1.0, 0.0]))["yield"]["actions"]["a"]["adjusted"]
        widths.append(moved["high"] - moved["low"])
    assert widths[0] < 1.5
    assert widths[1] > 3 * widths[0]
    assert widths[2] > 1.7 * widths[1]
