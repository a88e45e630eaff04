"""A question that cannot be asked is refused by name, with what would be right."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.question import MAX_K, Question
from registry.errors import QuestionError

GOOD: dict[str, Any] = {"domain": "crash.vehicles", "situation": {"age": 40}}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"k": 0}, "k"),
        ({"k": -1}, "k"),
        ({"k": 1_000_000}, "k"),
        ({"k": 2.5}, "k"),
        ({"k": True}, "k"),
        ({"per": "each"}, "per"),
        ({"deadline_ms": 0}, "deadline_ms"),
        ({"deadline_ms": 10**9}, "deadline_ms"),
        ({"mode": {"recall": 0}}, "mode"),
        ({"mode": {"recall": 1}}, "mode"),
        ({"mode": {"recall": 1.5}}, "mode"),
        ({"mode": {"budget": 0}}, "mode"),
        ({"mode": "quick"}, "mode"),
        ({"colour": "red"}, "colour"),
        ({"situation": None}, "either a situation or a fingerprint"),
        ({"fingerprint": [1.0]}, "either a situation or a fingerprint"),
        ({"situation": None, "fingerprint": [1.0]}, "space"),
        ({"situation": [1]}, "situation"),
        ({"domain": ""}, "domain"),
    ],
)
def test_a_bad_member_is_named(change: dict[str, Any], path: str) -> None:
    with pytest.raises(QuestionError) as caught:
        Question.from_document({**GOOD, **change})
    assert path in caught.value.detail


@pytest.mark.parametrize("document", [None, [], 3, "ask"])
def test_a_question_is_an_object(document: object) -> None:
    with pytest.raises(QuestionError, match="JSON object"):
        Question.from_document(document)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(QuestionError) as caught:
        Question.from_document({**GOOD, "k": 0, "per": "each"})
    assert [problem["path"] for problem in caught.value.where["problems"]] == ["k", "per"]


def test_defaults_are_those_of_the_protocol() -> None:
    question = Question.from_document(GOOD)
    assert (question.k, question.per, question.mode, question.deadline_ms) == (50, "action", "exact", None)
    assert Question.from_document({**GOOD, "k": MAX_K}).k == MAX_K
