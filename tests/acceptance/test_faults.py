"""One network of four is broken, hostile or gone: the question is answered on time, by the others, and says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from regional.packets.packet import Packet
from tests.acceptance import hostile
from tests.acceptance.federated import Federated, federated, situation, write_slice
from tests.acceptance.truth import Truth, check_bounded, places

pytestmark = pytest.mark.asyncio(loop_scope="session")

FEDERATION = """\
version: 1
registry: {dns: @dns, http: @http, coalesce: 20ms}
domains:
  crash.vehicles: {schema: $ROOT/examples/domains/crash.yaml}
networks:
  crash-{site}:
    domain: crash.vehicles
    process: honest
    listen: @honest
    data: $HOME/nass_cds_crash.csv
    where: {frontal: 1}
    each: {site: {column: site_psu, parts: 3}}
  villain: {domain: crash.vehicles, listen: @villain, data: $HOME/nass_cds_crash.csv, where: {frontal: 0}}
gateway: {listen: @gateway}
"""

VILLAIN = "villain"
QUESTION: dict[str, Any] = {"domain": "crash.vehicles", "situation": situation("crash"), "k": 60}
DEADLINE_MS = 400


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def kindred(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Federated]:
    """All four have deposited and are covered; then the villain's own service is gone, its port free."""
    home = tmp_path_factory.mktemp("faults")
    write_slice("nass_cds_crash", home, 60)
    async with federated(home, FEDERATION) as running:
        await running.deposit()
        question = await running.ask(**QUESTION)
        assert any(each["contributed"] for each in question["networks"] if each["name"] == VILLAIN)
        await running.processes[VILLAIN].stop()
        yield running


@pytest.fixture(scope="module")
def truth(kindred: Federated) -> Truth:
    return Truth(kindred.config, "crash.vehicles")


@pytest.fixture(scope="module")
def port(kindred: Federated) -> int:
    return kindred.config.networks[VILLAIN].listen.port


def of_villain(truth: Truth, action: str = "none+none") -> list[Packet]:
    return [each for each in truth.packets.values() if each.network == VILLAIN and each.action == action]


def lie(truth: Truth, name: str) -> hostile.Reply:
    """Replies made of real packets, each wrong in one thing."""
    own = of_villain(truth)
    wire = [packet.to_cbor() for packet in own]
    others = [each for each in truth.packets.values() if each.network != VILLAIN]
    nan = bytearray(wire[0])
    at = nan.index(own[0].fingerprint.astype("<f4").tobytes())
    nan[at : at + 4] = np.float32("nan").tobytes()
    bodies = {
        "another network's packets": hostile.packets(*(each.to_cbor() for each in others[:5])),
        "another domain's packets": hostile.packets(replace(own[0], domain="drives.machinery").to_cbor()),
        "another space's packets": hostile.packets(replace(own[0], space8=bytes(8)).to_cbor()),
        "more than k": hostile.packets(*(replace(own[0], node=bytes([n])).to_cbor() for n in range(61))),
        "one node twice": hostile.packets(wire[0], wire[0]),
        "an action that there is not": hostile.packets(replace(own[0], action="prayer").to_cbor()),
        "NaN in a fingerprint": hostile.packets(bytes(nan)),
        "a fingerprint too short": hostile.packets(replace(own[0], fingerprint=own[0].fingerprint[:-1]).to_cbor()),
        "a tombstone": hostile.packets(
            replace(own[0], tombstone=True, action=None, outcomes={}, fingerprint=own[0].fingerprint[:0]).to_cbor()
        ),
        "counts that cannot be": hostile.packets(tied={"none+none": -1}),
        "counts beyond all numbers": hostile.packets(tied={"none+none": 2**70}),
        "a serial that is none": hostile.packets(serial="new"),
        "packets that are none": hostile.packets(b"\xa0", b"", b"\xff"),
        "packets without end": hostile.packets(*(b"" for _ in range(50_000))),
    }
    return hostile.http(bodies[name])


NO_NETWORKS: dict[str, tuple[hostile.Reply, str, str]] = {
    "nothing": (hostile.nothing, "failed", "closed"),
    "silence": (hostile.silence, "timed out", "no answer within"),
    "a trickle": (hostile.trickle, "timed out", "no answer within"),
    "an endless body": (hostile.endless_body, "failed", "longer than"),
    "an endless head": (hostile.endless_head, "failed", ""),
    "another protocol": (hostile.no_http, "failed", ""),
    "a reset in the body": (hostile.reset_in_the_body, "failed", ""),
    "less than announced": (hostile.short_of_its_length, "failed", ""),
    "HTML": (hostile.http(b"<html>It works!</html>", kind="text/html"), "failed", "text/html"),
    "HTML by another name": (hostile.http(b"<html>It works!</html>"), "failed", "CBOR"),
    "an empty body": (hostile.http(b""), "failed", "CBOR"),
    "garbage": (hostile.http(b"\xff\x00" * 500), "failed", ""),
    "a billion packets announced": (hostile.http(b"\xa1\x67packets\x9a\x3b\x9a\xca\x00"), "failed", "CBOR"),
    "depth": (hostile.http(b"\x81" * 100_000), "failed", "CBOR"),
    "a list": (hostile.http(b"\x80"), "failed", "packets"),
    "a redirect": (hostile.http(b"", "302 Found", Location="http://127.0.0.1:9/"), "failed", "HTTP 302"),
    "compression": (hostile.http(b"\x1f\x8b", Content_Encoding="gzip"), "failed", "compressed"),
    "not here": (hostile.http(b"<html>", "404 Not Found", "text/html"), "failed", "HTTP 404"),
    "its own fault": (hostile.http(b"Traceback", "500 Oh", "text/plain"), "failed", "HTTP 500"),
    "a refusal": (hostile.http(b'{"detail": "not you"}', "403 No", "application/problem+json"), "refused", "not you"),
    "too many": (hostile.http(b"", "429 Too Many"), "refused", "HTTP 429"),
}  # fmt: skip
LIES = {
    "another network's packets": "network",
    "another domain's packets": "domain",
    "another space's packets": "space",
    "more than k": "more than k=60",
    "one node twice": "twice",
    "an action that there is not": "prayer",
    "NaN in a fingerprint": "",
    "a fingerprint too short": "",
    "a tombstone": "",
    "counts that cannot be": "tied",
    "counts beyond all numbers": "tied",
    "a serial that is none": "serial",
    "packets that are none": "packet",
    "packets without end": "",
}


async def check(kindred: Federated, truth: Truth, disposition: str, says: str) -> None:
    """The question is answered on time by the others, and the villain has this disposition for this reason."""
    began = time.monotonic()
    answer = await kindred.ask(**QUESTION, **{"deadline_ms": DEADLINE_MS})
    took = time.monotonic() - began
    check_bounded(truth, QUESTION, answer, {VILLAIN})
    (villain,) = [each for each in answer["networks"] if each["name"] == VILLAIN]
    assert (villain["disposition"], villain["contributed"]) == (disposition, 0)
    assert says in villain["reason"]
    assert {each["disposition"] for each in answer["networks"] if each["name"] != VILLAIN} <= {"answered", "skipped"}
    (missing,) = answer["certificate"]["missing"]
    assert missing["disposition"] == disposition
    assert "incomplete" in {warning["code"] for warning in answer["warnings"]}
    assert took < 2 * DEADLINE_MS / 1000


@pytest.mark.parametrize("name", NO_NETWORKS)
async def test_what_is_no_network(kindred: Federated, truth: Truth, port: int, name: str) -> None:
    reply, disposition, says = NO_NETWORKS[name]
    async with hostile.answering(port, reply):
        await check(kindred, truth, disposition, says)


@pytest.mark.parametrize("name", LIES)
async def test_a_network_that_lies(kindred: Federated, truth: Truth, port: int, name: str) -> None:
    async with hostile.answering(port, lie(truth, name)):
        await check(kindred, truth, "failed", LIES[name])


async def test_a_port_where_nobody_listens(kindred: Federated, truth: Truth) -> None:
    await check(kindred, truth, "failed", "onnect")


async def test_one_that_admits_to_send_less_than_it_holds(kindred: Federated, truth: Truth, port: int) -> None:
    """Truncated: everything up to its last packet counts, nothing beyond is promised."""
    query = truth.query(QUESTION)
    order = sorted(of_villain(truth), key=lambda each: float(((each.fingerprint.astype(float) - query) ** 2).sum()))
    kept = order[:3]
    reply = hostile.http(hostile.packets(*(each.to_cbor() for each in kept), truncated=True))
    async with hostile.answering(port, reply):
        answer = await kindred.ask(**QUESTION)
    certificate = answer["certificate"]
    assert not certificate["neighbours_complete"]
    assert {(each["network"], each["disposition"]) for each in certificate["missing"]} == {(VILLAIN, "truncated")}
    got = set(places(answer))
    for place, distance in truth.nearest(QUESTION):
        assert place in got or distance >= certificate["complete_within"]


async def test_silence_and_a_crowd(kindred: Federated, truth: Truth, port: int) -> None:
    """Thirty questions while it is silent: each is answered at its own deadline; they do not queue."""
    async with hostile.answering(port, hostile.silence):
        began = time.monotonic()
        answers = await asyncio.gather(*(kindred.ask(**QUESTION, **{"deadline_ms": 1000}) for _ in range(30)))
        assert time.monotonic() - began < 15  # one after the other they would take 30
    for answer in answers:
        check_bounded(truth, QUESTION, answer, {VILLAIN})


async def test_and_back_again(kindred: Federated, truth: Truth) -> None:
    """Its packets were on its disk all the time."""
    await kindred.processes[VILLAIN].start()
    try:
        answer = await kindred.ask(**QUESTION)
    finally:
        await kindred.processes[VILLAIN].stop()
    assert answer["certificate"]["neighbours_complete"] is True
    assert places(answer) == truth.places(QUESTION)


@pytest.mark.parametrize("per", ["action", "all"])
async def test_outcomes_that_cannot_be_spoil_nothing(kindred: Federated, truth: Truth, port: int, per: str) -> None:
    """Its neighbours are where it says; what it says came of them is left out where it makes no sense."""
    odd: list[dict[str, Any]] = [{"died": 7.5}, {"died": (3.0, True)}, {"married": 1.0}, {"died": None}, {}]
    query = truth.query(QUESTION)
    sent = [
        replace(packet, fingerprint=query.astype(np.float32), outcomes=outcomes)
        for packet, outcomes in zip(of_villain(truth), odd, strict=False)
    ]
    reply = hostile.http(hostile.packets(*(each.to_cbor() for each in sent)))
    async with hostile.answering(port, reply):
        answer = await kindred.ask(**{**QUESTION, "per": per, "k": 20})
    assert sum(each["network"] == VILLAIN for each in answer["neighbours"]) == len(sent) == 5
    assert set(answer["synthesis"]) == {"died"}
    for found in answer["synthesis"]["died"]["actions"].values():
        assert found["estimate"] is None or 0 <= found["estimate"] <= 1
