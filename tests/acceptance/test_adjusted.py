"""Estimates of a real federation: what many networks say together is what one network of all their packets says."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import orjson
import pytest

from gateway.neighbours import Neighbours
from gateway.standpoint import Standpoint
from gateway.synthesis import synthesise
from gateway.whole import Whole
from regional.momenttable import MomentTable, nodes_of
from regional.packet import node_from_text
from tests.acceptance.federated import Federated, situation
from tests.acceptance.truth import Truth

pytestmark = pytest.mark.asyncio(loop_scope="session")

DOMAINS = {
    "rice.agriculture": "rice",
    "drives.machinery": "drives",
    "crash.vehicles": "crash",
    "strikes.vehicles": "strikes",
}


@pytest.mark.parametrize("domain", DOMAINS)
async def test_networks_say_together_what_one_pooled_network_says(
    kindred: Federated, truths: dict[str, Truth], domain: str
) -> None:
    truth = truths[domain]
    question = {"domain": domain, "situation": situation(DOMAINS[domain]), "k": 40}
    answer = await _with_all_tables(kindred, truth, question)
    columns = _neighbours(truth, answer)
    standpoint = Standpoint(truth.query(question), _pooled(truth))
    schema = truth.schema
    expected = synthesise(
        columns, schema.outcomes, schema.actions, schema.study, schema.bandwidth_floor, standpoint=standpoint
    )
    wanted = orjson.loads(orjson.dumps(expected))
    for outcome in wanted.values():
        # Only by how many networks it was said is not the same.
        outcome["adjustment"]["networks"] = len({packet.network for packet in truth.packets.values()})
    assert _close(answer["synthesis"], wanted) == []


async def test_the_real_estimates_are_adjusted(kindred: Federated, truths: dict[str, Truth]) -> None:
    for domain, outcome in (("strikes.vehicles", "affected"), ("rice.agriculture", "yield")):
        question = {"domain": domain, "situation": situation(DOMAINS[domain]), "k": 60}
        found = (await _with_all_tables(kindred, truths[domain], question))["synthesis"][outcome]
        adjusted = [arm for arm in found["actions"].values() if arm["adjusted"] is not None]
        assert adjusted, found["adjustment"]
        for arm in adjusted:
            assert arm["adjusted"]["low"] < arm["adjusted"]["estimate"] < arm["adjusted"]["high"]
            assert arm["whole"]["low"] < arm["whole"]["estimate"] < arm["whole"]["high"]


async def _with_all_tables(kindred: Federated, truth: Truth, question: dict[str, Any]) -> Any:
    """The answer once the networks' tables of moments count every packet; they are made in the background."""
    async with asyncio.timeout(30):
        while True:
            answer = await kindred.ask(**question)
            told = {name: outcome["adjustment"] for name, outcome in answer["synthesis"].items()}
            known = {
                name: sum(p.weight > 0 and isinstance(p.outcomes.get(name), float) for p in truth.packets.values())
                for name in told
            }
            if all(each["networks"] and each["n"] == known[name] for name, each in told.items()):
                return answer
            await asyncio.sleep(0.2)


def _pooled(truth: Truth) -> Whole:
    packets = list(truth.packets.values())
    nodes = nodes_of(
        np.array([packet.fingerprint for packet in packets]),
        [packet.node for packet in packets],
        [packet.action or "" for packet in packets],
        np.array([packet.weight for packet in packets]),
        [packet.outcomes for packet in packets],
    )
    return Whole.of({"all": MomentTable.of(truth.schema, nodes, 1)}, truth.schema.adjusted, {})


def _neighbours(truth: Truth, answer: Any) -> Neighbours:
    found = [truth.packets[each["network"], node_from_text(each["node"])] for each in answer["neighbours"]]
    distance = np.array([each["distance"] for each in answer["neighbours"]])
    action = tuple(packet.action or "" for packet in found)
    arms: dict[str, list[float]] = {}
    for name, each in zip(action, distance.tolist(), strict=True):
        arms.setdefault(name, []).append(each)
    return Neighbours(
        distance=distance,
        points=np.array([packet.fingerprint for packet in found], dtype=np.float64),
        action=action,
        network=tuple(packet.network for packet in found),
        node=tuple(packet.node for packet in found),
        weight=np.array([packet.weight for packet in found]),
        outcomes=tuple(packet.outcomes for packet in found),
        size=np.ones(len(found), np.int64),
        k=answer["k"],
        per="action",
        radius={name: max(each) for name, each in arms.items() if len(each) == answer["k"]},
    )


def _close(found: Any, wanted: Any, path: str = "") -> list[str]:
    """Where the two differ by more than 1e-9 of the wanted value."""
    if isinstance(wanted, dict):
        if not isinstance(found, dict) or found.keys() != wanted.keys():
            return [f"{path}: {found} != {wanted}"]
        return [line for name in wanted for line in _close(found[name], wanted[name], f"{path}/{name}")]
    if isinstance(wanted, list):
        if not isinstance(found, list) or len(found) != len(wanted):
            return [f"{path}: {found} != {wanted}"]
        return [line for i, each in enumerate(wanted) for line in _close(found[i], each, f"{path}/{i}")]
    same = found == (pytest.approx(wanted, rel=1e-9) if isinstance(wanted, float) else wanted)
    return [] if same else [f"{path}: {found} != {wanted}"]
