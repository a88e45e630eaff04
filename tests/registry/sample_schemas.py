"""Schemas for tests: a small one of every kind, and hypothesis' own with the formula to check them by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from registry.likeness.schema import Schema

FIELD: dict[str, Any] = {
    "title": "Fields",
    "study": "observational",
    "release": "packets",
    "min_cohort": 1,
    "bandwidth_floor": 0.5,
    "actions": {"plough": "ploughed", "no-till": "not ploughed"},
    "features": {
        "clay": {"kind": "number", "label": "clay", "unit": "%", "scale": 10, "range": [0, 100], "weight": 2},
        "area": {
            "kind": "number", "label": "area", "unit": "ha", "scale": 2, "log": True, "range": [0.1, 1000],
            "missing": {"as": 10, "apart": 0.5},
        },
        "slope": {"kind": "ordinal", "label": "slope", "levels": ["flat", "gentle", "steep"]},
        "crop": {
            "kind": "category", "label": "crop",
            "groups": {"cereal": ["wheat", "barley", "maize"], "root": ["beet", "potato"], "other": ["grass"]},
            "similarity": {"wheat": {"barley": 0.8}},
        },
        "irrigated": {"kind": "flag", "label": "irrigated", "missing": {"as": False}},
        "sown": {"kind": "cycle", "label": "day of sowing", "unit": "days", "period": 365, "scale": 30},
        "rain": {
            "kind": "number", "label": "rain in season", "unit": "mm", "scale": 50, "range": [0, 5000],
            "before_action": False,
        },
    },
    "outcomes": {
        "yield": {"kind": "number", "label": "yield", "unit": "t/ha", "better": "higher", "range": [0, 50]},
        "lost": {"kind": "binary", "label": "crop lost", "better": "lower", "horizon": "100d", "unit": "days"},
        "stood": {"kind": "duration", "label": "days until it lodged", "unit": "days", "better": "higher"},
    },
}  # fmt: skip

SITUATION: dict[str, object] = {
    "clay": 30, "area": 5.0, "slope": "gentle", "crop": "wheat", "irrigated": True, "sown": 270,
}  # fmt: skip


def field(**changes: Any) -> Schema:
    """The schema above, with whole sections replaced."""
    return Schema.from_document({**FIELD, **changes}, "field")


_steps = st.floats(min_value=0.05, max_value=50)
_names = st.lists(st.text("abcdefgh", min_size=1, max_size=4), min_size=2, max_size=6, unique=True)


@st.composite
def number(draw: st.DrawFn) -> dict[str, Any]:
    log = draw(st.booleans())
    low = draw(st.floats(min_value=0.01 if log else -1000, max_value=1000))
    high = low + draw(st.floats(min_value=1, max_value=1000))
    scale = draw(st.floats(min_value=1.1, max_value=10) if log else st.floats(min_value=0.5, max_value=50))
    return {"kind": "number", "unit": "u", "range": [low, high], "scale": scale, "log": log}


@st.composite
def cycle(draw: st.DrawFn) -> dict[str, Any]:
    period = draw(st.floats(min_value=1, max_value=400))
    return {"kind": "cycle", "unit": "u", "period": period, "scale": draw(st.floats(min_value=0.5, max_value=60))}


@st.composite
def ordinal(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(_names)
    gaps = draw(st.lists(_steps, min_size=len(names), max_size=len(names)))
    return {"kind": "ordinal", "levels": {name: sum(gaps[: index + 1]) for index, name in enumerate(names)}}


@st.composite
def category(draw: st.DrawFn) -> dict[str, Any]:
    """Plain, in groups, or with a table: one whose rows add up to at most 1 always fits."""
    names = draw(_names)
    if draw(st.booleans()):
        cut = draw(st.integers(1, len(names)))
        groups = {"one": names[:cut], **({"two": names[cut:]} if names[cut:] else {})}
        return {"kind": "category", "groups": groups, "alike": draw(st.floats(min_value=0, max_value=0.95))}
    share = st.floats(min_value=0, max_value=1 / len(names))
    table = {one: {other: draw(share) for other in names[index + 1 :]} for index, one in enumerate(names[:-1])}
    return {"kind": "category", "values": names, "similarity": table}


kinds = st.one_of(number(), cycle(), ordinal(), category(), st.just({"kind": "flag"}))


@st.composite
def feature(draw: st.DrawFn) -> dict[str, Any]:
    """A feature with a weight, and one in two with a rule for missing values."""
    spec: dict[str, Any] = {"label": "x", "weight": draw(st.floats(min_value=0.05, max_value=9)), **draw(kinds)}
    if draw(st.booleans()):
        spec["missing"] = {"as": draw(known_value(spec)), "apart": draw(st.sampled_from([0, 0.5, 2]))}
    return spec


def known_value(spec: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a feature takes."""
    match spec["kind"]:
        case "number":
            return st.floats(*spec["range"])
        case "cycle":
            return st.floats(0, spec["period"])
        case "ordinal":
            return st.sampled_from(list(spec["levels"]))
        case "flag":
            return st.booleans()
        case _:
            return st.sampled_from(names_of(spec))


def value(spec: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a feature takes, None where it may be missing."""
    return known_value(spec) | st.none() if "missing" in spec else known_value(spec)


def names_of(spec: Mapping[str, Any]) -> list[str]:
    groups: Mapping[str, list[str]] = spec.get("groups", {})
    return spec["values"] if "values" in spec else [name for names in groups.values() for name in names]


def square(spec: Mapping[str, Any], a: Any, b: Any) -> float:
    """The squared dissimilarity of docs/fingerprint.md, weight included, by the C library's functions."""
    rule = spec.get("missing", {})
    once = rule.get("apart", 0) if (a is None) != (b is None) else 0
    a, b = (rule.get("as") if each is None else each for each in (a, b))
    return spec["weight"] * (_known_square(spec, a, b) + once * once)


def _known_square(spec: Mapping[str, Any], a: Any, b: Any) -> float:
    match spec["kind"]:
        case "number":
            return (math.log(a / b) / math.log(spec["scale"]) if spec["log"] else (a - b) / spec["scale"]) ** 2
        case "cycle":
            period = spec["period"]
            return (period / (math.pi * spec["scale"]) * math.sin(math.pi * abs(a - b) / period)) ** 2
        case "ordinal":
            return (spec["levels"][a] - spec["levels"][b]) ** 2
        case "flag":
            return float(a != b)
        case _:
            return 0.0 if a == b else 1.0 - _similarity(spec, a, b)


def _similarity(spec: Mapping[str, Any], a: str, b: str) -> float:
    if "values" in spec:
        table = spec["similarity"]
        return table.get(a, {}).get(b, table.get(b, {}).get(a, 0))
    return spec["alike"] if any(a in names and b in names for names in spec["groups"].values()) else 0.0
