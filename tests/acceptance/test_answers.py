"""Every face of the gateway on real rows of four fields: what is answered is what brute force over all rows says."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import orjson
import pytest
from jsonschema import Draft202012Validator

from gateway.federation import Federation
from regional.packets.packet import node_text
from registry.likeness.fingerprint import encode, to_base64
from tests.acceptance.federated import Federated, situation
from tests.acceptance.truth import Truth, places

pytestmark = pytest.mark.asyncio(loop_scope="session")

DOMAINS = {
    "icu.medicine": "icu",
    "rice.agriculture": "rice",
    "drives.machinery": "drives",
    "crash.vehicles": "crash",
    "severity.vehicles": "crash",
    "strikes.vehicles": "strikes",
}


@pytest.mark.parametrize("per", ["action", "all"])
@pytest.mark.parametrize("domain", DOMAINS)
async def test_an_answer_is_brute_force_over_all_rows(
    kindred: Federated, truths: dict[str, Truth], domain: str, per: str
) -> None:
    for k in (1, 7, 60):
        question = {"domain": domain, "situation": situation(DOMAINS[domain]), "k": k, "per": per}
        answer = await kindred.ask(**question)
        assert places(answer) == truths[domain].places(question)
        assert answer["found"] == sum(each["size"] for each in answer["neighbours"])
        assert answer["certificate"]["neighbours_complete"] is True
        assert answer["certificate"]["missing"] == []
        for each, (_, distance) in zip(answer["neighbours"], truths[domain].nearest(question), strict=True):
            assert each["distance"] == distance


@pytest.mark.parametrize("domain", DOMAINS)
async def test_so_it_is_between_the_members(kindred: Federated, truths: dict[str, Truth], domain: str) -> None:
    """By fingerprint, halfway between two members drawn by lot, and at a member itself (distance 0)."""
    truth = truths[domain]
    points = np.array([packet.fingerprint for packet in truth.packets.values()])
    draw = np.random.default_rng(7)
    space = truth.schema.space.hex()
    for number in range(12):
        two = points[draw.choice(len(points), 2, replace=False)]
        query = two.mean(axis=0).astype(np.float32) if number % 3 else two[0]
        question = {
            "domain": domain,
            "fingerprint": to_base64(query) if number % 2 else query.tolist(),
            "space": space,
            "k": int(draw.integers(1, 40)),
            "per": ("action", "all")[number % 2],
        }
        answer = await kindred.ask(**question)
        assert places(answer) == truth.places(question)
        assert answer["certificate"]["neighbours_complete"] is True


async def test_ties_have_one_order_and_are_counted(kindred: Federated, truths: dict[str, Truth]) -> None:
    """Drives of one temperature and size are equals: more of them than are asked for, over several networks."""
    truth = truths["drives.machinery"]
    question = {"domain": "drives.machinery", "situation": {"temperature": 24, "capacity": 3}, "k": 4, "per": "all"}
    answer = await kindred.ask(**question)
    assert places(answer) == truth.places(question)
    everyone = truth.nearest({**question, "k": len(truth.packets)})
    kth = answer["neighbours"][-1]["distance"]
    tied = sum(distance == kth for _, distance in everyone)
    shown = sum(each["distance"] == kth for each in answer["neighbours"])
    assert answer["tied_at_k"] == tied - shown > 0
    assert "ties" in {warning["code"] for warning in answer["warnings"]}


async def test_only_some_actions_and_outcomes(kindred: Federated, truths: dict[str, Truth]) -> None:
    for per in ("action", "all"):
        question = {
            "domain": "crash.vehicles",
            "situation": situation("crash"),
            "k": 20,
            "per": per,
            "actions": ["none+none", "belted+none"],
            "outcomes": ["died"],
        }
        answer = await kindred.ask(**question)
        assert places(answer) == truths["crash.vehicles"].places(question)
        assert list(answer["synthesis"]) == ["died"]


async def test_a_fingerprint_is_the_same_question_as_its_situation(kindred: Federated) -> None:
    schema = kindred.config.schemas()["icu.medicine"]
    by_situation = await kindred.ask(domain="icu.medicine", situation=situation("icu"), k=9)
    fingerprint = encode(schema, situation("icu"))
    for wire in (to_base64(fingerprint), fingerprint.tolist()):
        answer = await kindred.ask(domain="icu.medicine", fingerprint=wire, space=schema.space.hex(), k=9)
        assert answer["neighbours"] == by_situation["neighbours"]
        assert answer["synthesis"] == by_situation["synthesis"]


async def test_each_network_has_one_disposition_and_its_reason(kindred: Federated) -> None:
    """Cut by severity, a question concerns few networks; the others are skipped, and it is said why."""
    answer = await kindred.ask(domain="severity.vehicles", situation=situation("crash"), k=3)
    names = [each["name"] for each in answer["networks"]]
    assert len(names) == len(set(names))
    assert {each["disposition"] for each in answer["networks"]} == {"answered", "skipped"}
    for each in answer["networks"]:
        if each["disposition"] == "skipped":
            assert "nothing of it is nearer than" in each["reason"]
            assert each["contributed"] == 0
    assert sum(each["contributed"] for each in answer["networks"]) == answer["found"]


@pytest.mark.parametrize("per", ["action", "all"])
async def test_each_network_can_be_heard_by_itself(kindred: Federated, truths: dict[str, Truth], per: str) -> None:
    """Its difference is that of its own K nearest of each action, whoever else is nearer."""
    domain = "icu.medicine"
    question = {"domain": domain, "situation": situation("icu"), "k": 20, "per": per, "outcomes": ["died_30d"]}
    answer = await kindred.ask(**question, corroborate=True)
    plain = await kindred.ask(**question)
    assert answer["neighbours"] == plain["neighbours"]
    assert plain["synthesis"]["died_30d"]["heterogeneity"] is None
    [pair] = answer["synthesis"]["died_30d"]["heterogeneity"]
    held = {(packet.network, node_text(packet.node)): packet for packet in truths[domain].packets.values()}
    assert len(pair["networks"]) >= 2
    for told in pair["networks"]:
        others = {packet.network for packet in held.values()} - {told["network"]}
        own = truths[domain].nearest({**question, "per": "action"}, without=others)
        means = []
        for action in (pair["action"], pair["minus"]):
            arm = [(held[place], distance) for place, distance in own if held[place].action == action]
            width = max(1.0, *(distance for _, distance in arm))  # 1: the schema's floor
            figures = [atom.outcomes["died_30d"] for atom, _ in arm]
            kernel = [1 - 0.85 * max(0.0, distance**2 - 1.0) / width**2 for _, distance in arm]
            weight = [share * each.n for share, each in zip(kernel, figures, strict=True)]
            means.append(np.average([each.mean for each in figures], weights=weight))
        assert told["estimate"] == pytest.approx(means[0] - means[1], rel=1e-9)


async def test_the_certificate_says_what_it_relied_on(kindred: Federated) -> None:
    before = int(time.time())
    answer = await kindred.ask(domain="rice.agriculture", situation=situation("rice"), k=5)
    certificate = answer["certificate"]
    assert certificate["stale"] is False
    assert before - 30 <= certificate["as_of"] <= time.time()
    answered = {each["name"] for each in answer["networks"] if each["disposition"] == "answered"}
    assert {each["network"] for each in certificate["coverage"]} == answered
    assert all(each["serial"] >= 1 and 0 <= each["age_s"] < 600 for each in certificate["coverage"])


async def test_neighbours_stay_out_on_request(kindred: Federated) -> None:
    answer = await kindred.ask(domain="rice.agriculture", situation=situation("rice"), k=5, neighbours=False)
    assert answer["neighbours"] is None
    assert answer["found"] == 15


async def test_a_batch_answers_line_by_line_in_order(kindred: Federated) -> None:
    good = [
        {"domain": domain, "situation": situation(name), "k": 3, "deadline_ms": 10_000}
        for domain, name in DOMAINS.items()
    ]
    lines = [orjson.dumps(each) for each in good]
    lines[2:2] = [b'{"domain": "crash.vehicles", "k": 3', b'{"domain": "atlantis", "situation": {}}']
    headers = {"Content-Type": "application/x-ndjson"}
    body = b"\n".join(lines) + b"\n"
    async with kindred.session.post(f"{kindred.url}/v1/ask", data=body, headers=headers) as response:
        assert response.status == 200
        assert response.content_type == "application/x-ndjson"
        answers = [orjson.loads(line) for line in (await response.read()).splitlines()]
    assert len(answers) == len(lines)
    broken, unknown = answers.pop(2), answers.pop(2)
    assert (broken["status"], broken["line"], broken["type"]) == (400, 3, "urn:kindred:problem:document")
    assert (unknown["status"], unknown["line"], "atlantis" in unknown["detail"]) == (404, 4, True)
    for question, answer in zip(good, answers, strict=True):
        assert answer["domain"] == question["domain"]
        assert answer["neighbours"] == (await kindred.ask(**question))["neighbours"]


async def test_the_library_face(kindred: Federated, truths: dict[str, Truth]) -> None:
    question: dict[str, Any] = {"domain": "crash.vehicles", "situation": situation("crash"), "k": 11}
    async with Federation.open(kindred.config.file) as federation:
        answer = await federation.ask(**question, deadline_ms=10_000)
    assert answer.certificate.neighbours_complete
    assert places(answer.document()) == truths["crash.vehicles"].places(question)


async def test_resolve_walks_and_asks_nobody(kindred: Federated) -> None:
    body = {"domain": "severity.vehicles", "situation": situation("crash"), "k": 5}
    status, walked = await kindred.post("/v1/resolve", body)
    assert status == 200
    assert walked["apex"] == "severity.vehicles.kindred.internal."
    assert walked["cells"]
    assert all(each["name"].endswith(f"g{walked['generation']}.{walked['apex']}") for each in walked["cells"])
    assert walked["networks"][0]["name"] in {"severity-40-54", "severity-25-39"}
    expected = [each["expected"] for each in walked["networks"]]
    assert expected == sorted(expected, reverse=True)


async def test_networks_are_listed_from_the_registry(kindred: Federated, truths: dict[str, Truth]) -> None:
    status, found = await kindred.get("/v1/networks?domain=crash.vehicles")
    assert status == 200
    held: dict[str, int] = {}
    for network, _ in truths["crash.vehicles"].packets:
        held[network] = held.get(network, 0) + 1
    assert {each["name"]: each["packets"] for each in found["networks"]} == held
    assert all(not each["lapsed"] and each["uncovered"] == 0 and each["endpoints"] for each in found["networks"])
    status, everything = await kindred.get("/v1/networks")
    assert status == 200
    assert len(everything["networks"]) > len(found["networks"])
    status, problem = await kindred.get("/v1/networks?domain=atlantis")
    assert (status, "atlantis" in problem["detail"]) == (404, True)


async def test_domains_are_described(kindred: Federated) -> None:
    status, found = await kindred.get("/v1/domains")
    assert status == 200
    assert {each["name"] for each in found["domains"]} == set(kindred.config.domains)
    for each in found["domains"]:
        schema = kindred.config.schemas()[each["name"]]
        assert (each["space"], each["dimension"]) == (schema.space.hex(), schema.dimension)
        assert tuple(each["actions"]) == schema.actions


async def test_health_and_readiness(kindred: Federated) -> None:
    assert await kindred.get("/healthz") == (200, {"status": "ok"})
    assert await kindred.get("/readyz") == (200, {"status": "ready", "waiting": {}})


async def test_a_domain_that_nobody_covers(kindred: Federated) -> None:
    answer = await kindred.ask(domain="nobody.machinery", situation=situation("drives"))
    assert answer["walk"]["generation"] == 0
    assert answer["found"] == 0
    assert answer["networks"] == []
    assert "nobody-covers" in {warning["code"] for warning in answer["warnings"]}
    assert (await kindred.get("/v1/networks?domain=nobody.machinery"))[1] == {"networks": []}
    status, walked = await kindred.post("/v1/resolve", {"domain": "nobody.machinery", "situation": situation("drives")})
    assert (status, walked["generation"], walked["cells"], walked["networks"]) == (200, 0, [], [])


async def test_an_empty_network_troubles_nobody(kindred: Federated) -> None:
    told = await kindred.registry_says("/v1/networks/drives-empty")
    assert told["coverage"]["packets"] == 0
    assert told["coverage"]["regions"] == 0
    assert told["published"] >= 1
    answer = await kindred.ask(domain="drives.machinery", situation=situation("drives"), k=5)
    assert answer["certificate"]["neighbours_complete"] is True
    assert "drives-empty" not in {each["name"] for each in answer["networks"]}


async def test_unforeseen_paths_and_methods_are_problems_too(kindred: Federated) -> None:
    for method, path, status in (("GET", "/v1/ask", 405), ("POST", "/healthz", 405), ("GET", "/nothing", 404)):
        async with kindred.session.request(method, kindred.url + path) as response:
            assert response.status == status
            assert response.content_type == "application/problem+json"
            assert orjson.loads(await response.read())["status"] == status


async def test_many_questions_at_once(kindred: Federated, truths: dict[str, Truth]) -> None:
    """One gateway, one connection pool, forty askers: each gets the answer to its own question."""

    async def one(number: int) -> bool:
        question = {"domain": "crash.vehicles", "situation": {**situation("crash"), "age": 20 + number}, "k": 5}
        return places(await kindred.ask(**question)) == truths["crash.vehicles"].places(question)

    assert all(await asyncio.gather(*(one(number) for number in range(40))))


async def test_the_schema_of_answers_is_published(kindred: Federated) -> None:
    status, schema = await kindred.get("/v1/answer.schema.json")
    assert status == 200
    Draft202012Validator.check_schema(schema)
    answer = await kindred.ask(domain="icu.medicine", situation=situation("icu"), k=50, corroborate=True)
    assert Draft202012Validator(schema).is_valid(answer)
    # It holds for every member: what is not in it is no part of an answer.
    assert not Draft202012Validator(schema).is_valid({**answer, "conclusion": "true"})
    assert not Draft202012Validator(schema).is_valid({**answer, "found": None})
