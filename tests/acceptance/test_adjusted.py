"""Estimates of a real federation: what many networks say together is what one network of all their packets says."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from gateway.planning.neighbours import Neighbours
from gateway.statistics.standpoint import Standpoint
from gateway.statistics.synthesis import synthesise
from gateway.statistics.whole import Whole
from regional.cohort import Figures
from regional.momenttable import MomentTable, nodes_of
from regional.packets.packet import node_from_text
from regional.releasing.atombatch import AtomBatch
from tests.acceptance.federated import Federated, situation, until
from tests.acceptance.truth import Truth

pytestmark = pytest.mark.asyncio(loop_scope="session")

DOMAINS = {
    "icu.medicine": "icu",
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
    if schema.release == "aggregates":
        del wanted["survival"]
        survival = answer["synthesis"].pop("survival")
        for arm in survival["actions"].values():  # of parents, which are larger than atoms
            assert arm["n"] >= 50
            assert arm["low"] < arm["estimate"] < arm["high"]
            assert [time for time, *_ in arm["survival"]["steps"]] <= list(schema.outcomes["survival"].intervals)
    for outcome in wanted.values():
        # Only by how many networks it was said is not the same.
        outcome["adjustment"]["networks"] = len({packet.network for packet in truth.packets.values()})
    assert _close(answer["synthesis"], wanted) == []


async def test_the_real_estimates_are_adjusted(kindred: Federated, truths: dict[str, Truth]) -> None:
    for domain, outcome in (("icu.medicine", "died_30d"), ("rice.agriculture", "yield")):
        question = {"domain": domain, "situation": situation(DOMAINS[domain]), "k": 60}
        found = (await _with_all_tables(kindred, truths[domain], question))["synthesis"][outcome]
        adjusted = [arm for arm in found["actions"].values() if arm["adjusted"] is not None]
        assert adjusted, found["adjustment"]
        for arm in adjusted:
            assert arm["adjusted"]["low"] < arm["adjusted"]["estimate"] < arm["adjusted"]["high"]
            assert arm["whole"]["low"] < arm["whole"]["estimate"] < arm["whole"]["high"]


async def _with_all_tables(kindred: Federated, truth: Truth, question: dict[str, Any]) -> Any:
    """The answer once the networks' tables of moments count every packet; they are made in the background."""
    answers: list[Any] = []

    async def all_counted() -> bool:
        answers.append(await kindred.ask(**question))
        told = {name: each["adjustment"] for name, each in answers[-1]["synthesis"].items()}
        known = {name: sum(_known(each, name) for each in truth.packets.values()) for name in told}
        return all(each["networks"] and each["n"] == known[name] for name, each in told.items())

    await until(all_counted)
    return answers[-1]


def _known(atom: Any, outcome: str) -> int:
    """Of how many nodes a packet or an atom tells the outcome, with a weight that counts."""
    value = atom.outcomes.get(outcome)
    if isinstance(value, Figures):
        return value.n
    return int(isinstance(value, float) and atom.weight > 0)


def _pooled(truth: Truth) -> Whole:
    """What one network of all packets, or of all atoms, would say of the whole."""
    held = list(truth.packets.values())
    points = np.array([each.fingerprint for each in held], dtype=np.float64)
    nodes, actions = [each.node for each in held], [each.action or "" for each in held]
    outcomes = [each.outcomes for each in held]
    if truth.schema.release == "aggregates":
        sizes = np.array([each.size for each in held])
        table = MomentTable.of_atoms(truth.schema, AtomBatch(points, nodes, actions, sizes, sizes * 1.0, outcomes), 1)
    else:
        weight = np.array([each.weight for each in held])
        table = MomentTable.of(truth.schema, nodes_of(points, nodes, actions, weight, outcomes), 1)
    return Whole.of({"all": table}, truth.schema.adjusted, {})


def _neighbours(truth: Truth, answer: Any) -> Neighbours:
    found = [truth.packets[each["network"], node_from_text(each["node"])] for each in answer["neighbours"]]
    distance = np.array([each["distance"] for each in answer["neighbours"]])
    action = tuple(each.action or "" for each in found)
    size = np.array([getattr(each, "size", 1) for each in found])
    reached = {name: size[np.array(action) == name].sum() >= answer["k"] for name in action}
    return Neighbours(
        distance=distance,
        points=np.array([each.fingerprint for each in found], dtype=np.float64),
        action=action,
        network=tuple(each.network for each in found),
        node=tuple(each.node for each in found),
        weight=np.array([getattr(each, "weight", 1.0) for each in found]),
        outcomes=tuple(each.outcomes for each in found),
        size=size,
        k=answer["k"],
        per="action",
        radius={name: float(distance[np.array(action) == name].max()) for name in action if reached[name]},
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
