"""Schemas: what they hold, what changes their digests, and every fault with file, line and path."""

from pathlib import Path
from typing import Any

import pytest
from sample_schemas import FIELD, field

from registry.errors import SchemaError
from registry.likeness.schema import Schema

TABLE: dict[str, Any] = {
    "node": "row",
    "t0": {"constant": "2020-01-01"},
    "action": "how",
    "features": {"clay": "clay", "slope": "slope", "crop": "crop", "sown": "sown"},
    "outcomes": {"yield": "yield"},
}


def one(**spec: Any) -> dict[str, Any]:
    """Sections of a schema with one feature."""
    return {"features": {"x": {"label": "x", **spec}}}


def faults(document: dict[str, Any]) -> list[str]:
    with pytest.raises(SchemaError) as caught:
        Schema.from_document(document, "f")
    return [line.removeprefix("f:1: ") for line in caught.value.detail.split("\n")]


def test_what_a_schema_holds() -> None:
    schema = field()
    assert [feature.name for feature in schema.features] == ["clay", "area", "slope", "crop", "irrigated", "sown"]
    assert schema.after_action == {"rain": "rain in season"}
    assert schema.actions == ("plough", "no-till")
    assert schema.dimension == 1 + 2 + 1 + 5 + 1 + 2 == sum(feature.dimension for feature in schema.features)
    assert schema.outcomes["lost"].horizon_s == 100 * 86400
    assert schema.outcomes["stood"].unit_s == 86400
    assert schema.outcomes["yield"].range == (0, 50)
    assert [feature.required for feature in schema.features] == [True, False, True, True, False, True]


def test_who_does_not_say_what_may_be_released_gives_nobody_away() -> None:
    said = {name: value for name, value in FIELD.items() if name not in ("release", "min_cohort")}
    assert FIELD["release"] == "packets"
    for document, release, least in (
        (said, "aggregates", 11),
        ({**said, "min_cohort": 7}, "aggregates", 7),
        ({**said, "release": "aggregates"}, "aggregates", 11),
        ({**said, "release": "packets"}, "packets", 1),
    ):
        schema = Schema.from_document(document, "f")
        assert (schema.release, schema.min_cohort) == (release, least)
    assert faults({**said, "min_cohort": 4})[0].startswith("min_cohort: where aggregates are released it is 5 at least")


def test_only_what_encodes_changes_the_space_and_a_table_changes_nothing() -> None:
    schema = field()
    features = FIELD["features"]

    def changed(name: str, **change: Any) -> Schema:
        return field(features={**features, name: {**features[name], **change}})

    for same_space in (
        field(title="Other"),
        changed("clay", label="clay content", note="by sedimentation"),
        changed("rain", scale=99),
        field(outcomes={**FIELD["outcomes"], "weeds": {"kind": "number", "label": "weeds", "unit": "1/m2"}}),
    ):
        assert same_space.space == schema.space
        assert same_space.digest != schema.digest
    for other_space in (
        changed("clay", scale=11),
        changed("clay", weight=1),
        changed("clay", unit="g/kg"),
        changed("clay", range=[0, 99]),
        changed("area", missing={"as": 11, "apart": 0.5}),
        changed("area", missing={"as": 10, "apart": 0.6}),
        changed("slope", levels={"flat": 0, "gentle": 1, "steep": 3}),
        changed("crop", alike=0.4),
        changed("crop", similarity={}),
        field(features=dict(reversed(features.items()))),
        field(features={name: spec for name, spec in features.items() if name != "sown"}),
    ):
        assert other_space.space != schema.space
    assert changed("slope", levels={"flat": 0, "gentle": 1, "steep": 2}).space == schema.space
    assert field(table=TABLE).digest == schema.digest
    assert len(schema.space) == len(schema.digest) == 32


def test_a_fetched_document_is_the_same_schema() -> None:
    schema = field(table=TABLE)
    again = Schema.from_document(schema.document, "fetched")
    assert (again.space, again.digest, again.table) == (schema.space, schema.digest, schema.table)


def test_a_fault_in_a_file_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("title: X\nstudy: guess\nfeatures:\n  age:\n    kind: number\n    scal: 3\n")
    with pytest.raises(SchemaError) as caught:
        Schema.from_yaml(file)
    assert f"{file}:2: study: should be 'observational' or 'randomised', found 'guess'" in caught.value.detail
    assert f"{file}:6: features.age.scal: unknown key; did you mean 'scale'?" in caught.value.detail
    assert f"{file}:4: features.age.unit: is missing; add it" in caught.value.detail
    file.write_text("title: X\n title: [")
    with pytest.raises(SchemaError, match=rf"^{file}:2: broken YAML"):
        Schema.from_yaml(file)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"kind": "number", "unit": "u", "scale": 0, "range": [0, 1]}, ".scale: should be greater than 0"),
        ({"kind": "number", "unit": "u", "scale": 1, "range": [1, 0]}, ": the range [1, 0] is empty"),
        ({"kind": "number", "unit": "u", "scale": 1, "range": [1, "x"]}, ".range.1: should be a valid number"),
        ({"kind": "number", "unit": "u", "scale": 1e-6, "range": [0, 1]}, ": the range is more than 10000 steps"),
        ({"kind": "number", "unit": "u", "scale": 2, "log": True, "range": [0, 9]}, ": with `log: true` the range"),
        ({"kind": "number", "unit": "u", "scale": 1, "log": True, "range": [1, 9]}, ": with `log: true` the range"),
        ({"kind": "number", "unit": "u", "scale": 1, "range": [0, 9], "missing": {"apart": 1}}, "needs `as`"),
        ({"kind": "number", "unit": "u", "scale": 1, "range": [0, 9], "missing": {"as": 10}}, "10.0 is out of range"),
        ({"kind": "number", "unit": "u", "scale": 1, "range": [0, 9], "missing": {"as": "a"}}, "'a' is not a number"),
        ({"kind": "number", "unit": "u", "scale": 1, "range": [0, 9], "weight": -1}, ".weight: should be greater"),
        ({"kind": "ordinal", "levels": ["a"]}, ".levels: "),
        ({"kind": "ordinal", "levels": ["a", "a"]}, ".levels: "),
        ({"kind": "ordinal", "levels": {"a": 1, "b": 1}}, ": the positions of the levels must grow"),
        ({"kind": "category"}, ": either `values` (a list) or `groups`"),
        ({"kind": "category", "values": ["a", "a"]}, ": each value stands once"),
        ({"kind": "category", "values": ["a", "b"], "similarity": {"a": {"c": 0.1}}}, "'c' is not among the values"),
        ({"kind": "category", "values": ["a", "b"], "similarity": {"a": {"b": 1}}}, "should be less than 1"),
        (
            {"kind": "category", "values": ["a", "b"], "similarity": {"a": {"b": 0.1}, "b": {"a": 0.1}}},
            "be given once",
        ),
        ({"kind": "category", "values": ["a", "b", "c"], "missing": {"apart": 0.5}}, "raise `apart`"),
        ({"kind": "flag", "missing": {"apart": 0.4}}, "at least 0.5"),
        ({"kind": "cycle", "unit": "h", "period": 24, "scale": 3, "missing": {"apart": 1}}, "at least 1.273"),
        ({"kind": "flag", "before_action": False}, "at least one must come before it"),
        ({"kind": "colour"}, ": 'colour' is not known; one of"),
    ],
)
def test_a_feature_that_cannot_be_is_refused(spec: dict[str, Any], says: str) -> None:
    found = faults({**FIELD, **one(**spec)})
    assert any(line.startswith("features") and says in line for line in found), found


def test_a_table_of_similarities_that_no_points_have_names_the_values() -> None:
    table = {"oak": {"beech": 0.95}, "beech": {"fir": 0.95}, "palm": {"spruce": 0.5}}
    spec = {"kind": "category", "values": ["palm", "oak", "beech", "fir", "spruce"], "similarity": table}
    (found,) = faults({**FIELD, **one(**spec)})
    assert found.startswith("features.x: similarity: no points lie as 'oak', 'beech', 'fir' should")


def test_too_many_dimensions_are_refused() -> None:
    wide = {"kind": "category", "label": "x", "values": [f"v{n}" for n in range(70)]}
    (found,) = faults({**FIELD, "features": {"a": wide, "b": wide}})
    assert found.startswith("features: 138 dimensions, at most 128")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"features": {**TABLE["features"], "rain": "rain"}}, "table.features.rain: it is after the action"),
        ({"features": {**TABLE["features"], "caly": "x"}}, "table.features.caly: no such feature; did you mean"),
        ({"features": {"clay": "clay"}}, "table.features: slope must be given"),
        ({"outcomes": {"yeild": "yield"}}, "table.outcomes.yeild: no such outcome; did you mean 'yield'?"),
        ({"outcomes": {"stood": "days"}}, "table.outcomes.stood: a duration needs"),
        ({"outcomes": {"yield": {"duration": "a", "event": "b"}}}, "table.outcomes.yield: a number needs"),
        ({"outcomes": {"yield": {"duration": "a"}}}, "table.outcomes.yield: either `column`, or"),
        ({"action": {"column": "how", "map": {"p": "plow"}}}, "table.action: 'plow' is no action; did you mean"),
        ({"action": None}, "table: `action`"),
        ({"t0": {"constant": "last year"}}, "table.t0: 'last year' is no date"),
        ({"t0": {"column": "when"}}, "table.t0: either `constant`"),
        ({"t0": {"constant": "2020-01-01", "step": "6"}}, "table.t0.step: '6' is not understood"),
        ({"nodes": "id"}, "table.nodes: unknown key; did you mean 'node'?"),
    ],
)
def test_a_table_that_does_not_fit_the_schema_is_refused(change: dict[str, Any], says: str) -> None:
    found = faults({**FIELD, "table": {**TABLE, **change}})
    assert any(line.startswith(says) for line in found), found


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"adjust_for": ["clay", "clay"]}, "adjust_for: every feature is named once"),
        ({"adjust_for": ["rain"]}, "adjust_for: 'rain' is no feature from before the action"),
        ({"adjust_for": ["crop", "sown", "area"]}, "adjust_for: 9 axes of the fingerprint, at most 8"),
        ({"outcomes": {"x": {"kind": "ordinal", "label": "x"}}}, "outcomes.x.levels: an ordinal has `levels`"),
        (
            {"outcomes": {"x": {"kind": "binary", "label": "x", "levels": ["a", "b"]}}},
            "outcomes.x.levels: an ordinal has",
        ),
        ({"outcomes": {"x": {"kind": "ordinal", "label": "x", "levels": ["a", "a"]}}}, "outcomes.x.levels: every"),
        (
            {"outcomes": {"x": {"kind": "binary", "label": "x", "intervals": ["7d"]}}},
            "outcomes.x.intervals: only a duration",
        ),
        (
            {"outcomes": {"x": {"kind": "duration", "label": "x", "unit": "days", "intervals": ["7d", "7d"]}}},
            "outcomes.x.intervals: only a duration has intervals; their ends ascend",
        ),
        (
            {"outcomes": {"x": {"kind": "duration", "label": "x", "unit": "days", "entry": "y"}}},
            "outcomes.x.entry: a duration's entry is another outcome",
        ),
        (
            {
                "outcomes": {
                    "x": {"kind": "duration", "label": "x", "unit": "days", "entry": "y"},
                    "y": {"kind": "number", "label": "y", "unit": "weeks"},
                }
            },
            "outcomes.x.entry: a duration's entry is another outcome",
        ),
        ({"outcomes": {"x": {"kind": "duration", "label": "x", "unit": "moons"}}}, "outcomes.x: a duration's unit"),
        ({"outcomes": {"x": {"kind": "number", "label": "x"}}}, "outcomes.x: a number needs a unit"),
        ({"outcomes": {"x": {"kind": "binary", "label": "x", "range": [0, 1]}}}, "outcomes.x.range: only a number"),
        ({"outcomes": {"x": {"kind": "binary", "label": "x", "horizon": 30}}}, "outcomes.x.horizon: 30 is not under"),
        ({"actions": {"a b": "x"}}, "actions.a b"),
        ({"features": {"Clay": FIELD["features"]["clay"]}}, "features.Clay"),
        ({"min_cohort": 0}, "min_cohort: should be greater"),
    ],
)
def test_other_faults(change: dict[str, Any], says: str) -> None:
    found = faults({**FIELD, **change})
    assert any(line.startswith(says) for line in found), found


def test_what_is_no_schema_at_all() -> None:
    assert faults([1])[0].startswith("(the whole file): ")  # type: ignore[arg-type]


def test_what_is_adjusted_for_are_axes_of_the_fingerprint() -> None:
    schema = field(adjust_for=["slope", "clay", "area"])
    assert schema.adjust_for == ("slope", "clay", "area")
    starts = {"clay": 0, "area": 1, "slope": 3}  # area has an axis more, for where it is missing
    assert schema.adjusted == (starts["slope"], starts["clay"], starts["area"], starts["area"] + 1)
    assert field().adjusted == ()
    assert schema.space == field().space


def test_an_ordinal_has_levels_and_a_duration_may_have_an_entry() -> None:
    outcomes = {
        "harm": {"kind": "ordinal", "label": "harm", "levels": ["none", "some", "all"]},
        "entered": {"kind": "number", "label": "entered", "unit": "days"},
        "stood": {"kind": "duration", "label": "stood", "unit": "days", "entry": "entered"},
    }
    schema = field(outcomes=outcomes)
    assert schema.outcomes["harm"].levels == ("none", "some", "all")
    assert schema.outcomes["harm"].range == (0.0, 2.0)
    assert schema.outcomes["stood"].entry == "entered"
