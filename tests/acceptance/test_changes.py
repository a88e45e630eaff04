"""What changes while questions are asked: networks stop, leases lapse, the registry restarts, packets are replaced."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
import pytest_asyncio

from regional.client import NetworkClient
from regional.connections import Connections
from regional.packets.packet import Packet, node_text
from registry.likeness.fingerprint import encode
from tests.acceptance import hostile
from tests.acceptance.federated import Federated, federated, situation, until, write_slice
from tests.acceptance.truth import Truth, check_bounded, places

pytestmark = pytest.mark.asyncio(loop_scope="session")

FEDERATION = """\
version: 1
registry: {dns: @dns, http: @http, coalesce: 20ms, lease: 1500ms, ttl: {apex: 1s, cell: 1s, endpoint: 1s, negative: 1s}}
domains:
  rice.agriculture: {schema: $ROOT/examples/domains/rice.yaml}
  crash.vehicles: {schema: $ROOT/examples/domains/crash.yaml}
networks:
  rice-{region}:
    domain: rice.agriculture
    process: home
    listen: @home
    data: $HOME/rice_farms_indonesia.csv
    each: {region: [gunungwangi, malausma, langan, sukaambit, wargabinangun]}
  rice-ciwangi:
    domain: rice.agriculture
    process: away
    listen: @away
    data: $HOME/rice_farms_indonesia.csv
    where: {region: ciwangi}
  rice-new: {domain: rice.agriculture, process: home, listen: @home}
  crash-{frontal}:
    domain: crash.vehicles
    process: home
    listen: @home
    data: $HOME/nass_cds_crash.csv
    each: {frontal: [0]}
  crash-away:
    domain: crash.vehicles
    process: away
    listen: @away
    data: $HOME/nass_cds_crash.csv
    where: {frontal: 1}
gateway: {listen: @gateway}
"""
DOMAIN = "rice.agriculture"
AWAY = "rice-ciwangi"
QUESTION: dict[str, Any] = {"domain": DOMAIN, "situation": situation("rice"), "k": 25}
SEASON_S = 182 * 86_400


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def kindred(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Federated]:
    """Six villages and one network without a packet; leases of 1.5 s."""
    home = tmp_path_factory.mktemp("changes")
    write_slice("rice_farms_indonesia", home, 2)
    write_slice("nass_cds_crash", home, 50)
    async with federated(home, FEDERATION) as running:
        await running.deposit()
        yield running


@pytest.fixture(scope="module")
def truth(kindred: Federated) -> Truth:
    """Of the module, as the tests deposit more."""
    return Truth(kindred.config, DOMAIN)


async def check_whole(kindred: Federated, truth: Truth, question: dict[str, Any] = QUESTION) -> dict[str, Any]:
    answer = await kindred.ask(**question)
    assert answer["certificate"]["neighbours_complete"] is True
    assert places(answer) == truth.places(question)
    return answer


async def whole(kindred: Federated) -> bool:
    """Whether answers are complete again; what failed is remembered for a second, and what is stale says so."""
    return bool((await kindred.ask(**QUESTION))["certificate"]["neighbours_complete"])


async def deposit(kindred: Federated, *packets: Packet) -> dict[str, Any]:
    """The network's report."""
    network = kindred.config.networks[packets[0].network]
    body = orjson.dumps([packet.to_json() for packet in packets])
    headers = {"Content-Type": "application/json"}
    async with kindred.session.post(f"{network.endpoint}/v1/packets", data=body, headers=headers) as response:
        report: dict[str, Any] = orjson.loads(await response.read())
        assert response.status == 200, report
        return report


async def published(kindred: Federated, name: str) -> None:
    """Until everything that this network holds is in a published coverage."""
    async with Connections() as connections:
        client = NetworkClient(connections)

        async def done() -> bool:
            state = await client.coverage(kindred.config.networks[name].endpoint, 5.0)
            return not state.pending and state.uncovered == 0

        await until(done)


async def test_a_new_episode_overwrites_and_an_old_one_does_not(kindred: Federated, truth: Truth) -> None:
    old = next(each for each in truth.packets.values() if each.network == "rice-langan")
    fingerprint = encode(truth.schema, situation("rice"))
    new = replace(
        old,
        seq=old.seq + SEASON_S * 1000,
        t0=old.t0 + SEASON_S,
        time=old.time + SEASON_S,
        fingerprint=fingerprint,
        outcomes={"yield": 4321.0},
    )
    held = (await kindred.registry_says("/v1/networks/rice-langan"))["coverage"]["packets"]
    assert (await deposit(kindred, new))["accepted"] == 1
    truth.take(new)
    await published(kindred, "rice-langan")
    await until(lambda: found(kindred, truth))
    assert await deposit(kindred, old, new) | {"serial": 0, "covered": 0} == {
        "accepted": 0,
        "stale": 2,
        "rejected": [],
        "covered": 0,
        "serial": 0,
    }
    answer = await check_whole(kindred, truth)
    mine = [
        each for each in answer["neighbours"] if (each["network"], each["node"]) == (new.network, node_text(new.node))
    ]
    assert [(each["distance"], each["outcomes"]["yield"], each["t0"]) for each in mine] == [(0.0, 4321.0, new.t0)]
    assert (await kindred.registry_says("/v1/networks/rice-langan"))["coverage"]["packets"] == held


async def found(kindred: Federated, truth: Truth) -> bool:
    """Whether answers hold all that is published by now; the gateway's cache is a second behind."""
    return places(await kindred.ask(**QUESTION)) == truth.places(QUESTION)


async def test_an_uncovered_packet_is_covered_by_the_next_coverage(kindred: Federated, truth: Truth) -> None:
    """The first packet of a network whose coverage holds nothing: acknowledged, not covered; a moment later it is."""
    model = next(iter(truth.packets.values()))
    point = encode(truth.schema, {**situation("rice"), "area": 0.45})
    first = replace(model, network="rice-new", node=b"first", seq=1, fingerprint=point, action="mixed")
    report = await deposit(kindred, first)
    assert (report["accepted"], report["covered"]) == (1, 0)
    truth.take(first)
    await published(kindred, "rice-new")
    await until(lambda: found(kindred, truth))
    again = replace(first, node=b"second")
    report = await deposit(kindred, again)
    assert (report["accepted"], report["covered"]) == (1, 1)
    truth.take(again)
    answer = await check_whole(kindred, truth)
    assert ("rice-new", node_text(b"second")) in places(answer)


async def test_a_withdrawn_packet_is_gone_at_once(kindred: Federated, truth: Truth) -> None:
    endpoint = kindred.config.networks["rice-new"].endpoint
    async with kindred.session.delete(f"{endpoint}/v1/packets/{node_text(b'second')}") as response:
        assert response.status == 200
    del truth.packets["rice-new", b"second"]
    await check_whole(kindred, truth)


async def test_a_lapsed_network_is_flagged_and_never_forgotten(kindred: Federated, truth: Truth) -> None:
    """Its service stops, its lease runs out, the registry restarts: its regions still bound what is certain."""
    await check_whole(kindred, truth)
    await kindred.processes["away"].stop()
    answer = await kindred.ask(**QUESTION)
    check_bounded(truth, QUESTION, answer, {AWAY})

    async def lapsed() -> bool:
        answer = await kindred.ask(**QUESTION)
        check_bounded(truth, QUESTION, answer, {AWAY})
        return bool(answer["certificate"]["missing"][0]["disposition"] == "lapsed")

    await until(lapsed)
    answer = await kindred.ask(**QUESTION)
    assert "lapsed" in {warning["code"] for warning in answer["warnings"]}
    (away,) = [each for each in answer["networks"] if each["name"] == AWAY]
    assert away["disposition"] == "lapsed"
    assert "its lease is over" in away["reason"]

    async def listed() -> bool:
        found = (await kindred.get(f"/v1/networks?domain={DOMAIN}"))[1]["networks"]
        return {each["name"] for each in found if each["lapsed"]} == {AWAY}

    await until(listed)
    assert (await kindred.registry_says(f"/v1/networks/{AWAY}"))["coverage"]["lapsed"] is True

    await kindred.registry.stop()
    await kindred.registry.start()
    assert await lapsed()
    assert (await kindred.registry_says(f"/v1/networks/{AWAY}"))["coverage"]["lapsed"] is True

    await kindred.processes["away"].start()
    await until(lambda: whole(kindred))
    await check_whole(kindred, truth)


async def coverages(kindred: Federated) -> dict[str, tuple[int, int]]:
    """Of every network, how many packets and regions the registry knows."""
    listed = (await kindred.registry_says("/v1/networks"))["networks"]
    return {each["name"]: (each["coverage"]["packets"], each["coverage"]["regions"]) for each in listed}


async def test_questions_go_on_while_the_registry_restarts(kindred: Federated, truth: Truth) -> None:
    """No question fails and none is wrong: before, meanwhile (from the cache), and after, with the coverages it had."""
    await check_whole(kindred, truth)
    before = await coverages(kindred)
    stop = asyncio.Event()
    complete: list[bool] = []

    async def asking() -> None:
        while not stop.is_set():
            answer = await kindred.ask(**QUESTION)
            complete.append(answer["certificate"]["neighbours_complete"])
            if complete[-1]:
                assert places(answer) == truth.places(QUESTION)

    asker = asyncio.create_task(asking())
    await kindred.registry.stop()
    await kindred.registry.start()
    after = await coverages(kindred)
    assert after == before
    await until(lambda: whole(kindred))
    stop.set()
    await asker
    assert True in complete
    await check_whole(kindred, truth)


def known(kindred: Federated) -> dict[tuple[Any, ...], Any]:
    """What the gateway's cache holds, by ("apex" | "cell" | "network", name, ...), from now on for ever."""
    entries = kindred.federation.resolver.cache._entries
    for entry in entries.values():
        entry.expires = entry.usable_until = float("inf")
    return {key: entry for key, entry in entries.items() if isinstance(key, tuple)}


def knows(kindred: Federated, entries: dict[tuple[Any, ...], Any]) -> None:
    """Let the gateway's cache hold just this."""
    kindred.federation.resolver.cache._entries.clear()
    kindred.federation.resolver.cache._entries.update(entries)


async def forget_the_tree(kindred: Federated) -> None:
    """The registry restarts and has lost what it published: all it knows of is the coverages."""
    await kindred.registry.stop()
    shutil.rmtree(kindred.config.data_dir / "registry" / "history")
    await kindred.registry.start()


async def test_a_restarted_registry_goes_on_with_its_tree(kindred: Federated, truth: Truth) -> None:
    """Cells that a gateway has in its cache are as good as before."""
    answer = await check_whole(kindred, truth)
    before = known(kindred)
    await kindred.registry.stop()
    await kindred.registry.start()
    knows(kindred, {key: entry for key, entry in before.items() if key[0] != "apex"})
    await until(lambda: whole(kindred))
    again = await check_whole(kindred, truth)
    assert again["walk"]["generation"] == answer["walk"]["generation"]
    assert again["walk"]["lookups"] == 0
    knows(kindred, {})


async def test_versions_too_far_apart_certify_nothing(kindred: Federated, truth: Truth) -> None:
    """`keep` is 32 s here: with one cell of an older version, what moved since may have been seen nowhere."""
    await check_whole(kindred, truth)
    before = known(kindred)
    cells = [entry for key, entry in before.items() if key[0] == "cell" and DOMAIN in key[1] and not key[-1]]
    assert cells
    try:
        cells[-1].kept = replace(cells[-1].kept, serial=cells[-1].kept.serial - 40)
        answer = await kindred.ask(**QUESTION)
        assert answer["certificate"]["apart"] is True
        assert answer["certificate"]["neighbours_complete"] is False
        assert "apart" in {warning["code"] for warning in answer["warnings"]}
        assert places(answer) == truth.places(QUESTION)
    finally:
        knows(kindred, {})
    await check_whole(kindred, truth)


async def test_a_new_generation_under_a_cached_apex(kindred: Federated, truth: Truth) -> None:
    """The generation that the gateway remembers is gone, yet the question is answered whole."""
    answer = await check_whole(kindred, truth)
    before = known(kindred)
    await forget_the_tree(kindred)
    knows(kindred, {key: entry for key, entry in before.items() if key[0] != "cell"})
    again = await check_whole(kindred, truth)
    assert again["walk"]["generation"] > answer["walk"]["generation"]


async def test_a_generation_that_is_gone_and_no_time_to_start_anew(kindred: Federated) -> None:
    """One cell is gone, and a silent network takes all the time there is: the answer is what is known by then."""
    question = {"domain": "crash.vehicles", "situation": situation("crash"), "k": 40}
    truth = Truth(kindred.config, "crash.vehicles")
    answer = await check_whole(kindred, truth, question)
    generation = answer["walk"]["generation"]
    before = known(kindred)
    await kindred.processes["away"].stop()
    await forget_the_tree(kindred)
    cells = [key for key in before if key[0] == "cell" and key[2] == generation and key[3]]
    assert cells
    try:
        async with hostile.answering(kindred.config.networks[AWAY].listen.port, hostile.silence):
            for gone in cells[:8]:
                knows(kindred, {key: entry for key, entry in before.items() if key != gone})
                answer = await kindred.ask(**{**question, "deadline_ms": 150})
                certificate = answer["certificate"]
                assert certificate["neighbours_complete"] is False
                assert answer["walk"]["generation"] == generation
                got = set(places(answer))
                within = certificate["complete_within"]
                assert all(place in got or distance >= within for place, distance in truth.nearest(question))
    finally:
        knows(kindred, {})
        await kindred.processes["away"].start()


async def test_without_the_registry_answers_are_stale_and_say_so(kindred: Federated, truth: Truth) -> None:
    """For a while what was known before serves on, whatever its time to live; it is never called complete."""
    await until(lambda: found(kindred, truth))
    await kindred.registry.stop()
    try:

        async def stale() -> bool:
            answer = await kindred.ask(**QUESTION)
            assert places(answer) == truth.places(QUESTION)
            return bool(answer["certificate"]["stale"])

        await until(stale)
        answer = await kindred.ask(**QUESTION)
        assert answer["certificate"]["neighbours_complete"] is False
        assert "stale" in {warning["code"] for warning in answer["warnings"]}
        knows(kindred, {})
        status, problem = await kindred.post("/v1/ask", {**QUESTION, "deadline_ms": 500})
        assert (status, problem["type"]) == (503, "urn:kindred:problem:lookup")
        status, ready = await kindred.get("/readyz")
        assert (status, list(ready["waiting"])) == (503, ["crash.vehicles", DOMAIN])
    finally:
        await kindred.registry.start()
        knows(kindred, {})
    await check_whole(kindred, truth)
