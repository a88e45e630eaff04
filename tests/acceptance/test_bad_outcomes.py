"""Domains of which little can be said: an answer says what it cannot say, and why; never NaN, never a 500."""

from __future__ import annotations

import csv
import math
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from gateway.statistics.corroboration import UNCORROBORATED
from gateway.statistics.estimate import NO_SPREAD, TOO_FEW
from tests.acceptance.federated import Document, Federated, federated

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCHEMA = """
title: Odd
study: observational
release: packets
min_cohort: 1
bandwidth_floor: 0.1
actions: {a: a, b: b}
features: {x: {kind: number, label: x, unit: m, scale: 1, range: [-100, 100]}}
adjust_for: [x]
outcomes:
  dead: {kind: binary, label: dead}
  yield: {kind: number, label: yield, unit: kg}
  harm: {kind: ordinal, label: harm, levels: [none, some, all]}
  life: {kind: duration, label: life, unit: days}
table:
  node: node
  t0: {constant: 2020-01-01}
  weight: weight
  action: action
  features: {x: x}
  outcomes: {dead: dead, yield: yield, harm: harm, life: {duration: days, event: over}}
"""
N = 120
Row = dict[str, Any]
ROWS: dict[str, Callable[[Row], Row]] = {
    "usual": lambda row: row,
    "missing": lambda row: {**row, "dead": "", "yield": "", "harm": "", "days": ""},
    "arm": lambda row: {**row, "action": "a"},
    "flat": lambda row: {**row, "dead": 1, "yield": 4.25, "harm": "some", "days": 30, "over": 1},
    "near": lambda row: {**row, "x": 1.5},
    "weightless": lambda row: {**row, "weight": 0},
    "instant": lambda row: {**row, "days": 0, "over": 1},
    "censored": lambda row: {**row, "over": 0},
    "alone": lambda row: row,
}


def rows() -> Iterator[Row]:
    random = np.random.default_rng(4)
    for i in range(N):
        yield {
            "node": f"n{i}", "x": round(float(random.normal()), 3), "action": "ab"[i % 2], "weight": 1,
            "dead": int(random.random() < 0.4), "yield": round(float(random.normal(50, 9)), 3),
            "harm": ("none", "some", "all")[int(random.integers(3))], "days": int(random.integers(1, 300)),
            "over": int(random.random() < 0.6),
        }  # fmt: skip


def federation(home: Path) -> str:
    """One domain per trouble, of three networks but where there is one only; all in one process."""
    (home / "odd.yaml").write_text(SCHEMA)
    domains, networks = [], []
    for name, troubled in ROWS.items():
        with (home / f"{name}.csv").open("w", newline="") as target:
            writer = csv.DictWriter(target, next(rows()))
            writer.writeheader()
            writer.writerows(troubled(row) for row in rows())
        domains.append(f"  {name}.odd: {{schema: $HOME/odd.yaml}}")
        parts = "" if name == "alone" else ", each: {part: {column: node, parts: 3}}"
        called = name if name == "alone" else f"{name}-{{part}}"
        networks.append(
            f"  {called}: {{domain: {name}.odd, process: all, listen: @all, data: $HOME/{name}.csv{parts}}}"
        )
    return "\n".join(
        ["version: 1", "registry: {dns: @dns, http: @http}", "domains:", *domains, "networks:", *networks,
         "gateway: {listen: @gateway}"]
    )  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Federated]:
    home = tmp_path_factory.mktemp("odd")
    async with federated(home, federation(home)) as found:
        await found.deposit()
        yield found


async def ask(running: Federated, name: str, **members: object) -> Document:
    question = {"domain": f"{name}.odd", "situation": {"x": 1.5}, "k": 10_000, "corroborate": True, **members}
    answer = await running.ask(**question)
    assert all(math.isfinite(number) for number in numbers(answer))
    assert answer["certificate"]["neighbours_complete"] is True
    synthesis: Document = answer["synthesis"]
    return synthesis


def numbers(node: object) -> Iterator[float]:
    if isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from numbers(child)
    elif isinstance(node, float):
        yield node


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("per", ["action", "all"])
@pytest.mark.parametrize("k", [1, 10_000])
async def test_it_is_an_answer_whatever_is_known(running: Federated, name: str, per: str, k: int) -> None:
    """Fewer than 10 neighbours, and more than all that exist."""
    found = await ask(running, name, per=per, k=k)
    assert set(found) == {"dead", "yield", "harm", "life"}
    for outcome in found.values():
        for arm in outcome["actions"].values():
            assert (arm["method"] == TOO_FEW) == (arm["estimate"] is None)
            assert k > 1 or arm["method"] == TOO_FEW
            assert arm["low"] is not None or arm["note"] is not None or arm["estimate"] is None


async def test_more_than_all_that_exist_are_all(running: Federated) -> None:
    arms = (await ask(running, "usual"))["yield"]["actions"]
    assert {name: arm["n"] for name, arm in arms.items()} == {"a": N // 2, "b": N // 2}
    assert all(arm["adjusted"]["low"] < arm["adjusted"]["estimate"] < arm["adjusted"]["high"] for arm in arms.values())


async def test_nothing_is_known_of_anybody(running: Federated) -> None:
    for outcome in (await ask(running, "missing")).values():
        assert [(arm["n"], arm["unknown"]) for arm in outcome["actions"].values()] == [(0, N // 2)] * 2
        assert (outcome["verdict"], outcome["heterogeneity"]) == (TOO_FEW, [])


async def test_one_arm_only(running: Federated) -> None:
    found = await ask(running, "arm")
    assert found["yield"]["actions"]["a"]["n"] == N
    assert found["yield"]["actions"]["b"]["n"] == 0
    assert [each["verdict"] for each in found["yield"]["differences"]] == [TOO_FEW]
    assert found["yield"]["heterogeneity"] == []


async def test_the_same_of_everybody(running: Federated) -> None:
    found = await ask(running, "flat")
    for name, value in (("yield", 4.25), ("harm", 1.0), ("life", 30.0)):
        for arm in found[name]["actions"].values():
            assert (arm["estimate"], arm["low"], arm["note"]) == (value, None, NO_SPREAD)
    assert found["yield"]["heterogeneity"] == []  # without spread nobody can tell how sure he is
    assert found["dead"]["actions"]["a"]["estimate"] == found["dead"]["actions"]["a"]["high"] == 1.0
    assert found["dead"]["verdict"] == "not distinguishable"


async def test_all_at_distance_0(running: Federated) -> None:
    arm = (await ask(running, "near"))["yield"]["actions"]["a"]
    assert arm["n_eff"] == arm["n"] == N // 2


async def test_weights_of_zero(running: Federated) -> None:
    for outcome in (await ask(running, "weightless")).values():
        assert [(arm["n"], arm["unusable"]) for arm in outcome["actions"].values()] == [(0, N // 2)] * 2


async def test_over_at_once(running: Federated) -> None:
    arm = (await ask(running, "instant"))["life"]["actions"]["a"]
    assert (arm["estimate"], arm["restricted_to"], arm["survival"]["median"]["estimate"]) == (0.0, 0.0, 0.0)


async def test_everybody_censored(running: Federated) -> None:
    arm = (await ask(running, "censored"))["life"]["actions"]["a"]
    assert (arm["n"], arm["events"], arm["method"], arm["survival"]) == (N // 2, 0, TOO_FEW, None)


async def test_one_network_only(running: Federated) -> None:
    [pair] = (await ask(running, "alone"))["yield"]["heterogeneity"]
    assert UNCORROBORATED in pair["flags"]
    assert (pair["random_effects"], pair["prediction"]) == (None, None)
    assert pair["robust"] == {"estimate": pair["networks"][0]["estimate"], "aside": []}


async def test_an_unknown_action_is_refused_by_name(running: Federated) -> None:
    question = {"domain": "usual.odd", "situation": {"x": 1.5}, "actions": ["a", "c"]}
    status, problem = await running.post("/v1/ask", question)
    assert (status, "c" in problem["detail"], "a, b" in problem["detail"]) == (400, True, True)
