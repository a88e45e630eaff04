"""Modes over real sockets: what an answer says of itself when it stopped early, and what asking would cost."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.federated import Federated, situation
from tests.acceptance.test_cli import SITUATIONS, kindred_command
from tests.acceptance.truth import Truth, places

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_budget_leaves_out_and_says_so(kindred: Federated, truths: dict[str, Truth]) -> None:
    question = {"domain": "crash.vehicles", "situation": situation("crash"), "k": 20, "per": "all"}
    answer = await kindred.ask(**question, mode={"budget": 1})
    assert answer["mode"] == {"budget": 1}
    assert sum(each["disposition"] == "answered" for each in answer["networks"]) == 1
    left_out = {each["disposition"] for each in answer["certificate"]["missing"]}
    assert "unasked" in left_out
    assert left_out <= {"unasked", "unopened"}
    assert 0.0 <= answer["expected_recall"] < 1.0
    assert [warning["code"] for warning in answer["warnings"]].count("left-out") == 1
    within = answer["certificate"]["complete_within"]
    true = {place for place, distance in truths["crash.vehicles"].nearest(question) if distance < within}
    assert true <= set(places(answer))


async def test_recall_states_what_it_expects(kindred: Federated) -> None:
    answer = await kindred.ask(domain="strikes.vehicles", situation=situation("strikes"), k=20, mode={"recall": 0.9})
    assert answer["mode"] == {"recall": 0.9}
    assert answer["expected_recall"] >= 0.9
    exact = await kindred.ask(domain="strikes.vehicles", situation=situation("strikes"), k=20)
    assert (exact["mode"], exact["expected_recall"]) == ("exact", 1.0)


async def test_the_plan_says_what_asking_would_cost(kindred: Federated) -> None:
    words = ("ask", "crash.vehicles", "--situation", SITUATIONS / "crash.json", "-k", 6, "-c", kindred.config.file)
    ended = await kindred_command(*words, "--plan", "--json")
    forecast = json.loads(ended.out)["forecast"]
    assert 1 <= forecast["networks"] <= forecast["met"]
    ended = await kindred_command(*words, "--plan", "--budget", 1)
    assert ended.out.startswith("about 1 of ")
    ended = await kindred_command(*words, "--recall", 1.5)
    assert ended.code == 2
    assert "above 0 and below 1" in ended.err
