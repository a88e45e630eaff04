"""Where people are kept, nothing of a question leaves the gateway: what it sends is the same whatever is asked.

Every octet that the gateway sends goes through taps: to the name server, and to the networks.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import numpy as np
import orjson
import pytest
import pytest_asyncio

from gateway.cli.deposit import deposit_all
from gateway.cli.network import running_networks
from gateway.cli.registry import running_registry
from gateway.cli.up import make_keys
from gateway.configuration.config import FederationConfig
from gateway.federation import Federation
from gateway.question import Question
from registry.likeness.fingerprint import encode, to_base64
from tests.acceptance.federated import ROOT, situation, write_slice
from tests.acceptance.truth import Truth, places
from tests.acceptance.wiretap import Tap, tapped
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = """\
version: 1
data_dir: .
registry:
  dns: 127.0.0.1:{dns}
  http: 127.0.0.1:{http}
  coalesce: 20ms
  keys: {{transfer: {{secret: "file:keys/transfer.tsig"}}}}
domains:
  icu.medicine: {{schema: {root}/examples/domains/icu.yaml}}
networks:
  icu-{{cat1}}:
    domain: icu.medicine
    process: hall
    listen: 127.0.0.1:{hall}
    data: {home}/rhc_icu.csv
    each: {{cat1: [ARF, MOSF w/Sepsis, CHF, COPD]}}
gateway: {{listen: 127.0.0.1:8080, resolver: {resolver}}}
"""


class Wired(NamedTuple):
    """A running federation whose gateways talk through taps. config: that of its networks. tapped: the port before
    these."""

    names: Tap
    networks: Tap
    config: FederationConfig
    gateways: dict[str, FederationConfig]
    truth: Truth
    tapped: int

    def clear(self) -> None:
        self.names.clear()
        self.networks.clear()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wired(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wired]:
    home = tmp_path_factory.mktemp("wired")
    write_slice("rhc_icu", home, 8)
    ports = {name: free_port() for name in ("dns", "dns_tap", "http", "hall", "hall_tap")}

    def config(name: str, **changes: object) -> FederationConfig:
        path = home / f"{name}.yaml"
        members = {**ports, "root": ROOT, "home": home, "resolver": "{}", **changes}
        path.write_text(TEXT.format(**members))
        return FederationConfig.from_yaml(Path(path))

    networks, registry = config("networks"), config("registry", hall=ports["hall_tap"])
    make_keys(registry)
    at = f"127.0.0.1:{ports['dns_tap']}"
    gateways = {
        "walk": config("walk", resolver=f"{{walk: {at}}}"),
        "copy": config("copy", resolver=f"{{copy: {at}, key: transfer}}"),
    }
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running_registry(registry))
        await stack.enter_async_context(running_networks(networks, list(networks.networks.values())))
        names = await stack.enter_async_context(tapped(ports["dns_tap"], ports["dns"], udp=True))
        tap = await stack.enter_async_context(tapped(ports["hall_tap"], ports["hall"]))
        await deposit_all(networks, [(each, each.data) for each in networks.networks.values() if each.data], quiet=True)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        truth = await Truth(networks, "icu.medicine").look(session)
        yield Wired(names, tap, networks, gateways, truth, ports["hall_tap"])


def questions(truth: Truth, n: int) -> list[dict[str, Any]]:
    """All sorts of them: by situation and by fingerprint, of some actions, in every mode."""
    draw = np.random.default_rng(22)
    points = np.array([each.fingerprint for each in truth.packets.values()])
    ways = ({}, {"per": "all"}, {"corroborate": True}, {"actions": ["catheter"]}, {"mode": {"budget": 1}})
    made = []
    for number in range(n):
        question: dict[str, Any] = {"domain": truth.domain, "k": int(draw.integers(1, 150)), "deadline_ms": 20_000}
        if number % 2:
            question["situation"] = {**situation("icu"), "age": int(draw.integers(20, 90))}
        else:
            point = points[draw.choice(len(points), 2)].mean(axis=0).astype(np.float32)
            question |= {"fingerprint": to_base64(point), "space": truth.schema.space.hex()}
        made.append(question | ways[number % 5])
    return made


def traces(truth: Truth, question: dict[str, Any]) -> list[bytes]:
    """Forms in which the fingerprint of a question could be sent, whole or in part."""
    point = truth.query(question).astype(np.float32)
    encoded = point.astype("<f4").tobytes()
    parts = [encoded, point.astype(">f4").tobytes(), base64.b64encode(encoded), orjson.dumps(point.tolist())[1:-1]]
    return [piece for each in parts for piece in (each[: len(each) // 2], each[len(each) // 2 :])]


@pytest.mark.parametrize("way", ["walk", "copy"])
async def test_no_fingerprint_and_no_cell_name_tell_what_was_asked(wired: Wired, way: str) -> None:
    asked = questions(wired.truth, 25)
    wired.clear()
    async with Federation.open(wired.gateways[way]) as federation:
        for number, question in enumerate(asked):
            answer = (await federation.ask(**question)).document()
            assert answer["found"] >= 1
            if "mode" not in question and question.get("actions") is None:
                assert places(answer) == wired.truth.places(question)
            await federation.resolve(Question.from_document(question))
            if number == 0:
                first = wired.networks.requests()
                assert wired.networks.octets
        assert wired.networks.requests() == first  # all pages, once; then nothing any more
    sent = wired.names.octets + wired.networks.octets
    for question in asked:
        assert not [piece for piece in traces(wired.truth, question) if piece in sent]
    assert {request.split("/")[3] for request in first} <= {"atoms", "moments"}
    assert b"nearest" not in sent
    shown = {network.split("/")[1] for network in first}
    assert shown == set(wired.config.networks)
    if way == "copy":
        assert {name.split()[1] for name in wired.names.names()} <= {"SOA", "AXFR", "IXFR"}
        assert {name.split()[0] for name in wired.names.names()} == {
            "kindred.internal.",
            "icu.medicine.kindred.internal.",
        }


async def test_what_is_sent_is_the_same_whatever_is_asked(wired: Wired) -> None:
    """Over a walk, cells are asked for by name: all of them, always."""
    seen = []
    for question in questions(wired.truth, 5):
        wired.clear()
        async with Federation.open(wired.gateways["walk"]) as federation:
            await federation.ask(**question)
        seen.append((wired.names.names(), wired.networks.requests()))
    assert all(each == seen[0] for each in seen)
    assert any(" SVCB" in name for name in seen[0][0])


async def test_the_tap_would_have_shown_it(wired: Wired) -> None:
    """A fingerprint that is sent, as it is to networks that release packets, is found; and they do not take it."""
    question = {"situation": situation("icu")}
    body = {"fingerprint": to_base64(encode(wired.truth.schema, situation("icu"))), "k": 1}
    wired.clear()
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{wired.tapped}/icu-arf/v1/nearest", json=body) as response,
    ):
        assert response.status == 400
    body["space"] = wired.truth.schema.space.hex()
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{wired.tapped}/icu-arf/v1/nearest", json=body) as response,
    ):
        assert response.status == 403
    assert [piece for piece in traces(wired.truth, question) if piece in wired.networks.octets]
