"""Ordinals, and durations of nodes that came under observation late, from the neighbours to the document."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from lifelines.utils import restricted_mean_survival_time
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from gateway.planning.neighbours import Neighbours
from gateway.statistics.estimate import TOO_FEW
from gateway.statistics.finding import INTERRUPTED
from gateway.statistics.kernel import kernel_weights
from gateway.statistics.synthesis import synthesise
from regional.cohort import Cohort
from regional.packets.admission import Admission
from regional.packets.packet import Packet
from registry.errors import PacketError
from registry.likeness.schema import Outcome
from tests.gateway.cohorts import TIME, neighbours
from tests.registry.sample_schemas import field

LEVELS = ("none", "slight", "severe", "fatal")
HARM = Outcome("harm", "ordinal", "harm", None, "lower", None, (0.0, 3.0), LEVELS)
LATE = replace(TIME, entry="entered")


def arm(of: Neighbours, outcome: Outcome) -> Any:
    document = synthesise(of, {outcome.name: outcome}, ("a",), "observational", 0.1)
    return json.loads(json.dumps(document, allow_nan=False))[outcome.name]["actions"]["a"]


def harmed(values: list[Any], **more: Any) -> Neighbours:
    return neighbours([{"harm": value} for value in values], **more)


def test_an_ordinal_is_its_mean_place_and_its_distribution() -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 4, 80).astype(float)
    distance = np.sort(rng.uniform(0, 2, 80))
    found = arm(harmed(values.tolist(), distance=distance.tolist(), radius={"a": 2.0}), HARM)
    weight = kernel_weights(distance, 2.0, 0.1)
    n_eff = weight.sum() ** 2 / (weight**2).sum()
    theirs = DescrStatsW(values, weights=weight * n_eff / weight.sum())
    assert found["estimate"] == pytest.approx(theirs.mean, rel=1e-9)
    assert (found["low"], found["high"]) == pytest.approx(theirs.tconfint_mean(), rel=1e-9)
    assert [each["level"] for each in found["distribution"]] == list(LEVELS)
    assert sum(each["share"] for each in found["distribution"]) == pytest.approx(1.0)
    assert sum(each["n"] for each in found["distribution"]) == 80
    for place, each in enumerate(found["distribution"][1:], 1):
        share = weight[values >= place].sum() / weight.sum()
        low, high = proportion_confint(share * n_eff, n_eff, method="wilson")
        assert each["at_least"] == pytest.approx({"estimate": share, "low": low, "high": high}, rel=1e-9)


def test_what_is_no_level_is_not_used() -> None:
    values = [0.0, 1.0, 2.0, 3.0] * 5 + [1.5, -1.0, 4.0, None, float("nan"), (1.0, True)]
    found = arm(harmed(values), HARM)
    assert (found["n"], found["unknown"], found["unusable"]) == (20, 1, 5)
    assert arm(harmed([1.0] * 9), HARM)["method"] == TOO_FEW
    assert arm(harmed([1.0] * 9), HARM)["distribution"] is None
    same = arm(harmed([1.0] * 30), HARM)
    assert (same["estimate"], same["low"]) == (1.0, None)


def test_of_atoms_the_mean_place_is_known_and_no_distribution() -> None:
    figures = Cohort.of([(float(i % 4), 1.0) for i in range(12)]).figures()
    of = harmed([figures, figures])
    of.size[:] = 12
    found = arm(of, HARM)
    assert found["estimate"] == pytest.approx(1.5)
    assert found["distribution"] is None


def test_a_packet_has_the_place_of_a_level() -> None:
    schema = field(outcomes={"harm": {"kind": "ordinal", "label": "harm", "levels": list(LEVELS)}})
    admission = Admission("north", "fields", schema)

    def packet(value: Any) -> Packet:
        point = np.zeros(schema.dimension, np.float32)
        return Packet("fields", schema.space[:8], "north", b"n", 1, 0.0, 0.0, point, "plough", {"harm": value})

    for value in (0.0, 3.0, None):
        admission.check(packet(value))
    for value in (4.0, -1.0, 0.5, (1.0, True)):
        with pytest.raises(PacketError, match="the place of a level, 0 to 3"):
            admission.check(packet(value))


def test_late_entries_are_at_risk_from_then_on() -> None:
    rng = np.random.default_rng(2)
    life, entered = rng.exponential(100, 300), rng.uniform(0, 60, 300)
    kept = life > entered
    life, entered = life[kept], np.where(rng.random(kept.sum()) < 0.3, 0.0, entered[kept])
    event = rng.random(len(life)) < 0.7
    rows: list[Any] = [
        {"time": (t, bool(e)), "entered": s}
        for t, e, s in zip(life.tolist(), event.tolist(), entered.tolist(), strict=True)
    ]
    found = arm(neighbours(rows), LATE)
    theirs = KaplanMeierFitter().fit(life, event, entry=entered)
    expected = restricted_mean_survival_time(theirs, t=found["restricted_to"])
    assert found["estimate"] == pytest.approx(expected, rel=1e-9)
    assert arm(neighbours(rows), TIME)["estimate"] > found["estimate"] + 5  # as if all had been there from the start


def test_who_entered_when_it_was_over_or_nobody_knows_when_is_not_used() -> None:
    good: list[Any] = [{"time": (50.0 + i, True), "entered": float(i)} for i in range(30)]
    bad: list[Any] = [
        {"time": (5.0, True), "entered": 5.0},
        {"time": (5.0, True), "entered": -1.0},
        {"time": (5.0, True), "entered": "soon"},
        {"time": (5.0, True), "entered": None},
        {"time": (5.0, True)},
        {"time": None, "entered": 1.0},
    ]
    found = arm(neighbours(good + bad), LATE)
    assert (found["n"], found["unknown"], found["unusable"]) == (30, 3, 3)


def test_where_all_at_risk_had_the_event_before_others_came_nothing_is_estimated() -> None:
    first: list[Any] = [{"time": (2.0 + i / 10, True), "entered": 0.0} for i in range(6)]
    later: list[Any] = [{"time": (50.0 + i, True), "entered": 10.0} for i in range(30)]
    found = arm(neighbours(first + later), LATE)
    assert found["estimate"] is None
    assert found["note"] == INTERRUPTED
