"""The picture of an answer: drawn for every kind of outcome, also where little is known."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gateway.picture import draw
from gateway.planning.neighbours import Neighbours
from gateway.statistics.synthesis import synthesise
from registry.errors import ConfigError
from tests.gateway.cohorts import OUTCOMES, cohort, neighbours


def document(of: Neighbours, actions: tuple[str, ...] = ("a", "b", "c", "d"), complete: bool = True) -> dict[str, Any]:
    return {
        "domain": "trial.medicine",
        "found": len(of),
        "study": "observational",
        "certificate": {"neighbours_complete": complete},
        "synthesis": synthesise(of, OUTCOMES, actions, "observational", 0.1),
    }


def texts(path: Path) -> str:
    """What the SVG draws as glyphs stands in its comments, one text each."""
    return "\n".join(re.findall(r"<!-- (.*?) -->", path.read_text("utf-8")))


def test_every_arm_and_outcome_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "answer.svg"
    draw(document(cohort(1)), path)
    told = texts(path)
    for word in (
        "Dead (dead)",
        "Yield (yield)",
        "Time (time)",
        "share without the event",
        "OBSERVATIONAL",
        "proved complete",
    ):
        assert word in told
    assert told.count("effective") == 12
    draw(document(cohort(1)), tmp_path / "answer.png")
    assert (tmp_path / "answer.png").read_bytes().startswith(b"\x89PNG")


def test_an_answer_is_drawn_alike_twice(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        draw(document(cohort(2)), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize("of", [neighbours([]), neighbours([{"dead": 1.0}] * 5), neighbours([{"yield": 2.0}] * 30)])
def test_what_is_not_known_is_said(tmp_path: Path, of: Neighbours) -> None:
    path = tmp_path / "answer.svg"
    draw(document(of, ("a",), complete=False), path)
    assert "too few" in texts(path)
    assert "NOT proved complete" in texts(path)


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        draw(document(cohort(1)), tmp_path / "nowhere" / "answer.svg")
