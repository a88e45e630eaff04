"""Whatever stands in the outcomes, and whoever is asked beside the neighbours: never NaN, never an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gateway.planning.neighbours import Neighbours
from gateway.statistics.balance import balance
from gateway.statistics.standpoint import Standpoint
from gateway.statistics.synthesis import synthesise
from gateway.statistics.whole import Whole
from regional.momenttable import MomentTable, nodes_of
from tests.gateway.test_adjustment import SCHEMA

ANSWER = orjson.loads((Path(__file__).parents[2] / "gateway" / "answer.schema.json").read_bytes())
OUTCOME = Draft202012Validator({**ANSWER["$defs"]["outcome"], "$defs": ANSWER["$defs"]})

places = st.one_of(st.floats(-3, 3), st.sampled_from([0.0, 1e-30, 40.0, 1e18, -1e18]))
numbers = st.one_of(st.floats(-100, 100), st.sampled_from([0.0, 1.0, 5e-324, 1e-160, 1e100, -1e100]))
rows = st.tuples(
    st.tuples(places, places, places),
    st.sampled_from("ab"),
    st.sampled_from(["north", "south", "east"]),
    st.one_of(st.just(1.0), st.sampled_from([1e-300, 1e300, 0.0, -1.0])),
    st.fixed_dictionaries(
        {},
        optional={
            "yield": st.one_of(st.none(), numbers),
            "dead": st.sampled_from([0.0, 1.0, None, 0.5]),
            "harm": st.sampled_from([0.0, 1.0, 2.0, None]),
            "time": st.one_of(st.none(), st.tuples(numbers, st.booleans())),
        },
    ),
)


@st.composite
def crowds(draw: st.DrawFn) -> list[Any]:
    """A few rows as they come, some of them many times over, and often many usual ones: enough for every estimate."""
    kinds = draw(st.lists(rows, min_size=1, max_size=6))
    times = draw(st.lists(st.sampled_from([1, 3, 12, 40]), min_size=len(kinds), max_size=len(kinds)))
    hostile = [row for row, n in zip(kinds, times, strict=True) for _ in range(n)]
    return [*hostile, *usual(draw(st.integers(0, 2**32)), draw(st.sampled_from([0, 90, 90])))]


def usual(seed: int, n: int) -> Iterator[Any]:
    rng = np.random.default_rng(seed)
    low = rng.uniform(-1, 1)  # whether a ratio or a proportion comes near to 0
    for i in range(n):
        place = rng.normal(size=3)
        outcomes = {
            "yield": float(rng.normal(low, 1) + 3 * place[0]), "dead": float(rng.random() < 0.1 + 0.2 * place[0]),
            "harm": float(rng.integers(3)), "time": (float(rng.integers(0, 60)), bool(rng.random() < 0.5)),
        }  # fmt: skip
        yield tuple(place.tolist()), "ab"[i % 2], ("north", "south", "east")[i % 3], 1.0, outcomes


@settings(max_examples=60, deadline=None)
@given(crowds(), st.sampled_from(["action", "all"]), st.tuples(places, places, places))
def test_never_nan_with_tables_and_opinions(crowd: list[Any], per: Any, query: tuple[float, float, float]) -> None:
    at = np.array(query)
    of = columns(crowd, at, per)
    opinions = {
        name: columns([row for row in crowd if row[2] == name], at, per)
        for name in sorted({network for _, _, network, _, _ in crowd})
    }
    nodes = nodes_of(of.points, list(of.node), list(of.action), of.weight, list(of.outcomes))
    whole = Whole.of({"all": MomentTable.of(SCHEMA, nodes, 1)}, SCHEMA.adjusted, {})
    found = synthesise(of, SCHEMA.outcomes, ("a", "b"), "observational", 0.01, opinions, Standpoint(at, whole))
    for outcome in json.loads(json.dumps(found, allow_nan=False)).values():
        OUTCOME.validate(outcome)
        for arm in intervals(outcome):
            assert arm["low"] <= arm["estimate"] <= arm["high"]
    json.dumps(balance(of, ("a", "b"), SCHEMA.features, 0.01), allow_nan=False)


def columns(crowd: list[Any], query: np.ndarray, per: Any) -> Neighbours:
    points = np.array([point for point, *_ in crowd])
    distance = np.sqrt(((points - query) ** 2).sum(axis=1))
    order = np.argsort(distance, kind="stable").tolist()
    kept = [crowd[i] for i in order]
    return Neighbours(
        distance[order], points[order], tuple(row[1] for row in kept), tuple(row[2] for row in kept),
        tuple(i.to_bytes(4, "big") for i in order), np.array([row[3] for row in kept]), tuple(row[4] for row in kept),
        np.ones(len(kept), np.int64), 50, per, {},
    )  # fmt: skip


def intervals(node: object) -> Iterator[dict[str, Any]]:
    """Every object with an estimate and both its limits."""
    if isinstance(node, dict):
        if node.get("estimate") is not None and node.get("low") is not None and node.get("high") is not None:
            yield node
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from intervals(child)
