"""YAML: what is taken, what is refused, and that every refusal names file and line."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from registry.errors import ConfigError, SchemaError
from registry.yamltext import nearest, parse_yaml, read_yaml, validate


class Leaf(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    kind: Literal["leaf"]
    weight: Annotated[float, Field(gt=0)] = 1.0


class Branch(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    kind: Literal["branch"]
    leaves: list[Leaf]


class Forest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    title: str
    trees: dict[str, Annotated[Leaf | Branch, Field(discriminator="kind")]]


def test_scalars_are_those_of_yaml_1_2() -> None:
    text = "{a: No, b: 1990-01-31, c: 12:30, d: 010, e: 1e3, f: true, g: ~, h: .5, i: on, j: -3, k: .nan}"
    assert parse_yaml(text, "f").data == {
        "a": "No", "b": "1990-01-31", "c": "12:30", "d": 10, "e": 1000.0, "f": True, "g": None, "h": 0.5, "i": "on",
        "j": -3, "k": ".nan",
    }  # fmt: skip


def test_keys_are_text() -> None:
    assert parse_yaml("1: x\ntrue: y\n", "f").data == {"1": "x", "true": "y"}


def test_every_part_knows_its_line() -> None:
    text = parse_yaml("a: 1\nb:\n  - x\n  - y: 2\n    z: 3\n", "f")
    assert [text.line(path) for path in [("a",), ("b",), ("b", 0), ("b", 1, "z"), ("b", 1, "none"), ("q",)]] == [
        1, 2, 3, 5, 4, 1,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "stands twice (also on line 1)"),
        ("a: &x [1]\nb: *x\n", 2, "an alias"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "tag"),
        ("a: !!binary aGk=\n", 1, "tag"),
        ("a: 1\n--- \nb: 2\n", 2, "broken YAML"),
        ("a: [1, 2\nb: 3\n", 2, "broken YAML"),
        ("a: b: c\n", 1, "broken YAML"),
        ("a:\n\t- 1\n", 2, "broken YAML"),
        ("a: \x01\n", 1, "broken YAML"),
        ("? [a]\n: 1\n", 1, "a key must be plain text"),
        ("", 1, "empty"),
        ("x: 1\na: " + "9" * 30, 2, "too large"),
        ("a: 1e999", 1, "too large"),
        ("[" * 2000 + "]" * 2000, 1, "nested deeper than 32"),
    ],
)
def test_what_is_refused_names_file_and_line(text: str, line: int, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "some.yaml")
    assert caught.value.detail.startswith(f"some.yaml:{line}: ")
    assert what in caught.value.detail
    assert caught.value.where == {"file": "some.yaml", "line": line}


def test_a_file_in_another_encoding_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes("a: 1\nb: Käse\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml:2: not UTF-8"):
        read_yaml(file)
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read"):
        read_yaml(tmp_path / "absent.yaml")


def test_all_problems_are_reported_with_line_and_path() -> None:
    text = parse_yaml(
        "titel: x\ntrees:\n  oak:\n    kind: leaf\n    wieght: 2\n  elm:\n    kind: leaf\n    weight: -1\n"
        "  fir:\n    kind: brunch\n  ash:\n    leaves: []\n  yew:\n    kind: branch\n    leaves:\n"
        "      - kind: leaf\n      - {kind: leaf, weight: heavy}\n",
        "f.yaml",
    )
    with pytest.raises(SchemaError) as caught:
        validate(Forest, text, SchemaError)
    assert set(caught.value.detail.split("\n")) == {
        "f.yaml:1: title: is missing; add it",
        "f.yaml:1: titel: unknown key; did you mean 'title'?",
        "f.yaml:5: trees.oak.wieght: unknown key; did you mean 'weight'?",
        "f.yaml:8: trees.elm.weight: should be greater than 0, found -1",
        "f.yaml:9: trees.fir: 'brunch' is not known; one of 'leaf', 'branch'",
        "f.yaml:11: trees.ash: 'kind' is missing; add it",
        "f.yaml:17: trees.yew.leaves.1.weight: should be a valid number, found 'heavy'",
    }
    assert len(caught.value.where["problems"]) == 7


def test_a_check_over_the_whole_is_reported_alike() -> None:
    text = parse_yaml("title: x\ntrees: {}\n", "f.yaml")
    with pytest.raises(ConfigError, match=r"^f\.yaml:2: trees: too few$"):
        validate(Forest, text, ConfigError, lambda forest: [] if forest.trees else [(("trees",), "too few")])
    assert validate(Forest, text, ConfigError).title == "x"


def test_a_flood_of_problems_is_cut() -> None:
    text = parse_yaml("title: x\ntrees: {}\n" + "".join(f"k{n}: 1\n" for n in range(50)), "f.yaml")
    with pytest.raises(ConfigError) as caught:
        validate(Forest, text, ConfigError)
    assert caught.value.detail.endswith("... and 30 more")


def test_nearest() -> None:
    assert nearest("wieght", ["weight", "age"]) == "did you mean 'weight'?"
    assert nearest("zzz", ["weight", "age"]) == "known: weight, age"
