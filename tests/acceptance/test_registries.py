"""examples/registries as four operators run them: names delegated to two registries, a part of a domain to a third."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import pytest_asyncio

from gateway.cli.registry import running_registry
from gateway.configuration.config import FederationConfig
from gateway.federation import Federation
from regional.client import CoverageState, NetworkClient
from regional.connections import Connections
from regional.packets.packet import Packet, node_text
from registry.errors import LookupFailed
from registry.geometry.cell import Naming
from registry.keys import SigningKey
from tests.acceptance.federated import ROOT, Federated, Role, federated, situation, until, write_slice
from tests.acceptance.test_cli import kindred_command
from tests.acceptance.truth import Truth, places
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

SHIPPED = ROOT / "examples" / "registries"
SLICES = {"rhc_icu": 6, "rice_farms_indonesia": 2, "nass_cds_crash": 50}
RICE: dict[str, Any] = {"domain": "rice.agriculture", "situation": situation("rice"), "k": 25}
ABOVE = Naming("rice.agriculture", "kindred.internal.")
ASIA = Naming("rice.agriculture", "asia.kindred.internal.")

Registries = dict[str, Federated]


def shipped(name: str, ports: dict[str, int], data: Path) -> str:
    """A file of examples/registries with ports that are free, fewer rows, and times to live of a second."""
    text = (SHIPPED / f"{name}.yaml").read_text()
    text = re.sub(r"(127\.0\.0\.\d):(\d+)", lambda found: f'"{found[1]}:{ports[found[2]]}"', text)
    text = re.sub(r"\.\./data/(\w+)\.csv\.gz", rf"{data}/\1.csv", text)
    text = text.replace("../domains", str(ROOT / "examples" / "domains")).replace(f".kindred/{name}", ".kindred")
    quick = "registry:\n  coalesce: 20ms\n  ttl: {apex: 1s, cell: 1s, endpoint: 1s, negative: 1s}\n"
    return text.replace("registry:\n", quick, 1)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def registries(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Registries]:
    """All four, running, with their data deposited."""
    home = tmp_path_factory.mktemp("registries")
    for name, every in SLICES.items():
        write_slice(name, home, every)
    ports = {port: free_port() for port in ("5300", "5380", "7301", "8080")}
    key = SigningKey.create(home / "asia" / ".kindred" / "keys" / "asia")  # as its first start makes it
    (home / "root" / ".kindred" / "keys").mkdir(parents=True)
    shutil.copy(home / "asia" / ".kindred" / "keys" / "asia.pub", home / "root" / ".kindred" / "keys")
    assert key.public
    async with AsyncExitStack() as stack:
        running = {
            name: await stack.enter_async_context(federated(home / name, shipped(name, ports, home)))
            for name in ("root", "medicine", "vehicles", "asia")
        }
        for each in running.values():
            await each.deposit()
        yield running


@pytest.fixture(scope="module")
def rice(registries: Registries) -> Truth:
    """Of all villages, whichever registry knows them."""
    truth = Truth(registries["root"].config, "rice.agriculture")
    for packet in Truth(registries["asia"].config, "rice.agriculture").packets.values():
        truth.take(packet)
    return truth


def plain(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Places with networks by the names that they have where they are enrolled."""
    return sorted((ABOVE.owner(network)[1], node) for network, node in found)


def check_whole(truth: Truth, question: dict[str, Any], answer: dict[str, Any]) -> None:
    assert answer["certificate"]["neighbours_complete"] is True, answer["certificate"]
    distances = [distance for _, distance in truth.nearest(question)]
    assert np.allclose([each["distance"] for each in answer["neighbours"]], distances, rtol=1e-12, atol=1e-12)
    if not answer["tied_at_k"]:
        assert plain(places(answer)) == sorted(truth.places(question))


@pytest.mark.parametrize(
    ("domain", "owner", "name"), [("icu.medicine", "medicine", "icu"), ("crash.vehicles", "vehicles", "crash")]
)
async def test_a_question_at_the_root_is_answered_across_the_cut(
    registries: Registries, domain: str, owner: str, name: str
) -> None:
    question = {"domain": domain, "situation": situation(name), "k": 10}
    truth = await Truth(registries[owner].config, domain).look(registries[owner].session)
    answer = await registries["root"].ask(**question)
    check_whole(truth, question, answer)
    own = await registries[owner].ask(**question)
    assert places(own) == places(answer)
    listed = await registries["root"].registry_says("/v1/domains")
    assert [each["name"] for each in listed["domains"]] == ["rice.agriculture"]


async def test_a_question_goes_on_into_the_subtree(registries: Registries, rice: Truth) -> None:
    answer = await registries["root"].ask(**RICE)
    check_whole(rice, RICE, answer)
    names = {each["name"] for each in answer["networks"]}
    assert {ASIA.network("rice-langan"), "rice-ciwangi"} <= names
    assert any(each["network"].endswith(f".net.{ASIA.apex}") for each in answer["neighbours"])
    assert not {each["code"] for each in answer["warnings"]} & {"outside", "stale", "incomplete"}
    listed = await registries["root"].get("/v1/networks?domain=rice.agriculture")
    assert {each["name"] for each in listed[1]["networks"]} >= {ASIA.network("rice-langan"), "rice-ciwangi"}


async def test_the_member_asks_within_its_own_part(registries: Registries) -> None:
    truth = Truth(registries["asia"].config, "rice.agriculture")
    check_whole(truth, RICE, await registries["asia"].ask(**RICE))


async def test_resolve_shows_the_walk_across(registries: Registries) -> None:
    config = registries["root"].config.file
    file = ROOT / "examples" / "situations"
    ended = await kindred_command("resolve", "rice.agriculture", "--situation", file / "rice.json", "-c", config)
    assert (ended.code, ended.err) == (0, "")
    assert re.search(rf"^g\d+\.{re.escape(ABOVE.apex)} +SVCB +\d+ records", ended.out, re.MULTILINE)
    assert re.search(rf"^g\d+\.{re.escape(ASIA.apex)} +SVCB +\d+ records", ended.out, re.MULTILINE)
    assert ASIA.network("rice-langan") in ended.out
    for apex, host in ((ABOVE.apex, "127.0.0.1"), (ASIA.apex, "127.0.0.4")):
        assert re.search(
            rf"^;; apex {re.escape(apex)} generation \d+ serial \d+ from {host}:\d+$", ended.out, re.MULTILINE
        )
    ended = await kindred_command("resolve", "icu.medicine", "--situation", file / "icu.json", "-c", config)
    assert (ended.code, ended.err) == (0, "")
    assert re.search(r"^g\d+\.icu\.medicine\.kindred\.internal\. +SVCB", ended.out, re.MULTILINE)
    assert re.search(r"^;; apex icu\.medicine\.kindred\.internal\. .* from 127\.0\.0\.2:\d+$", ended.out, re.MULTILINE)


async def deposit(at: Federated, packet: Packet) -> dict[str, Any]:
    endpoint = at.config.networks[packet.network].endpoint
    headers = {"Content-Type": "application/json"}
    body = orjson.dumps([packet.to_json()])
    async with at.session.post(f"{endpoint}/v1/packets", data=body, headers=headers) as response:
        report: dict[str, Any] = orjson.loads(await response.read())
        assert response.status == 200, report
        return report


async def coverage(at: Federated, network: str) -> CoverageState:
    async with Connections() as connections:
        return await NetworkClient(connections).coverage(at.config.networks[network].endpoint, 5.0)


async def uncovered(at: Federated, network: str) -> int:
    return (await coverage(at, network)).uncovered


async def test_growth_is_covered_only_once_the_parent_has_published_it(registries: Registries, rice: Truth) -> None:
    """A packet far from all others goes to a village of the member, while its parent is away, then back."""
    old = next(each for each in rice.packets.values() if each.network == "rice-langan")
    far = old.fingerprint + np.float32(6.0)
    packet = replace(old, node=b"far away", fingerprint=far)
    question = {"domain": RICE["domain"], "fingerprint": far.tolist(), "space": rice.schema.space.hex(), "k": 1}
    await registries["root"].registry.stop()
    try:
        report = await deposit(registries["asia"], packet)
        assert report["accepted"] == 1
        assert report["covered"] == 0
        status, ready = 200, {}
        async with asyncio.timeout(20.0):
            while status == 200:  # until it has tried
                await asyncio.sleep(0.05)
                url = f"http://{registries['asia'].config.registry.http}/readyz"
                async with registries["asia"].session.get(url) as response:
                    status, ready = response.status, orjson.loads(await response.read())
        assert "at its parent" in str(ready)
        assert await uncovered(registries["asia"], packet.network) == 1
    finally:
        await registries["root"].registry.start()

    async def covered() -> bool:
        return await uncovered(registries["asia"], packet.network) == 0

    await until(covered)
    rice.take(packet)

    async def found() -> bool:  # the gateway's cache is a second behind, and its certificate says so
        places_ = places(await registries["root"].ask(**question))
        return (ASIA.network(packet.network), node_text(packet.node)) in places_

    await until(found)
    check_whole(rice, question, await registries["root"].ask(**question))


async def test_a_member_that_is_away_is_never_taken_for_empty(registries: Registries, rice: Truth) -> None:
    asia = registries["asia"]
    await asia.registry.stop()
    try:

        async def noticed() -> bool:
            certificate = (await registries["root"].ask(**RICE))["certificate"]
            return not certificate["neighbours_complete"]

        await until(noticed)
    finally:
        await asia.registry.start()

    async def whole() -> bool:
        return bool((await registries["root"].ask(**RICE))["certificate"]["neighbours_complete"])

    await until(whole)
    check_whole(rice, RICE, await registries["root"].ask(**RICE))


def without_parent(config: FederationConfig, path: Path) -> FederationConfig:
    """The same registry, which is nobody's member any more."""
    lines = Path(config.file).read_text().splitlines()
    kept = [line for line in lines if "parents:" not in line and "name: asia" not in line]
    path.write_text("\n".join(kept).replace(".kindred\n", f"{config.data_dir}\n"))
    return FederationConfig.from_yaml(path)


async def test_a_subtree_that_does_not_name_its_parent_is_refused_by_name(
    registries: Registries, rice: Truth, tmp_path: Path
) -> None:
    """The member is started again without its parent: the parent's record is then one to a stranger."""
    asia = registries["asia"]
    stranger = without_parent(asia.config, tmp_path / "federation.yaml")
    await asia.registry.stop()
    role = Role(lambda: running_registry(stranger))
    await role.start()
    try:
        reasons: set[str | None] = set()

        async def refused() -> bool:
            certificate = (await registries["root"].ask(**RICE))["certificate"]
            reasons.update(each["reason"] for each in certificate["missing"] if each["cell"] == ASIA.apex)
            return any("not its subtree: it names no parent" in str(reason) for reason in reasons)

        await until(refused)
        answer = await registries["root"].ask(**RICE)
        missing = [each for each in answer["certificate"]["missing"] if each["cell"] == ASIA.apex]
        assert missing  # one, or two while what the parent has replaced stays beside what is new
        assert {(each["network"], each["disposition"]) for each in missing} == {(None, "unresolved")}
        assert answer["certificate"]["complete_within"] <= min(each["lower_bound"] for each in missing)
        assert not any(each["network"].endswith(ASIA.apex) for each in answer["neighbours"])
    finally:
        await role.stop()
        await asia.registry.start()

    async def whole() -> bool:
        return bool((await registries["root"].ask(**RICE))["certificate"]["neighbours_complete"])

    await until(whole)
    check_whole(rice, RICE, await registries["root"].ask(**RICE))


async def test_registries_restart_under_load_and_no_question_fails(registries: Registries, rice: Truth) -> None:
    """Questions go on while the parent, then the member, is stopped and started again; what is complete is right."""
    stop = asyncio.Event()
    asked = 0

    async def ask() -> None:
        nonlocal asked
        while not stop.is_set():
            answer = await registries["root"].ask(**RICE)
            if answer["certificate"]["neighbours_complete"]:
                check_whole(rice, RICE, answer)
            asked += 1

    askers = [asyncio.create_task(ask()) for _ in range(4)]
    for name in ("root", "asia", "root"):
        await registries[name].registry.stop()
        before = asked
        while asked < before + 8:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await registries[name].registry.start()
    stop.set()
    await asyncio.gather(*askers)

    async def whole() -> bool:
        return bool((await registries["root"].ask(**RICE))["certificate"]["neighbours_complete"])

    await until(whole)
    check_whole(rice, RICE, await registries["root"].ask(**RICE))


class Killable:
    """The registry of a file, as the process that an operator runs."""

    def __init__(self, config: FederationConfig) -> None:
        self._config = config
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        command = [sys.executable, "-m", "gateway.cli", "registry", "--config", self._config.file]
        self._process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(60.0):
            assert await self._process.stdout.readline() == b"ready\n"

    async def end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            await process.wait()


async def test_a_registry_killed_under_load_loses_nothing_and_no_certificate_is_wrong(
    registries: Registries, rice: Truth
) -> None:
    """kill -9, three times, while packets arrive in new places, which make it publish, and questions go on.

    Each packet is far from all others, so the answer to the usual question stays what it is.
    """
    root = registries["root"]
    olds = {each.network: each for each in rice.packets.values() if each.network in root.config.networks}
    assert len(olds) == 3
    space = rice.schema.space.hex()
    acknowledged: list[tuple[Packet, float]] = []  # and when it was certainly published
    serials: dict[str, int] = {}  # of the coverages that were
    stop = asyncio.Event()
    asked = complete = 0

    async def ask(packet: Packet, at: float) -> bool:
        """Whether the packet is in a complete answer; in one that is complete as of a later time it must be."""
        question = {"domain": RICE["domain"], "fingerprint": packet.fingerprint.tolist(), "space": space, "k": 1}
        answer = await root.ask(**question)
        certificate = answer["certificate"]
        found = (packet.network, node_text(packet.node)) in places(answer)
        assert found or not certificate["neighbours_complete"] or certificate["as_of"] <= at, (certificate, at)
        return found and certificate["neighbours_complete"]

    async def go_on_asking() -> None:
        nonlocal asked, complete
        while not stop.is_set():
            answer = await root.ask(**RICE)
            if answer["certificate"]["neighbours_complete"]:
                check_whole(rice, RICE, answer)
                complete += 1
            if acknowledged:
                await ask(*acknowledged[-1])
            asked += 1

    async def go_on_depositing(old: Packet, far: float) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            packet = replace(
                old,
                node=b"far away %d" % number,
                fingerprint=old.fingerprint + np.float32(far + number),
                action="traditional",  # of which there are more than the usual question wants
            )
            assert (await deposit(root, packet))["accepted"] == 1
            rice.take(packet)
            while (now := await coverage(root, packet.network)).uncovered:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.02)
            acknowledged.append((packet, time.time()))
            serials[packet.network] = now.published

    process = Killable(root.config)
    await root.registry.stop()
    await process.start()
    try:
        loads = [asyncio.create_task(go_on_asking()) for _ in range(3)]
        loads += [asyncio.create_task(go_on_depositing(each, 50.0 * n)) for n, each in enumerate(olds.values(), 1)]
        for _ in range(3):
            known = len(acknowledged)

            async def published(known: int = known) -> bool:
                assert not any(load.done() for load in loads)
                return len(acknowledged) > known

            await until(published)
            await process.end(signal.SIGKILL)
            before, held = asked, dict(serials)

            async def asked_on(before: int = before) -> bool:
                assert not any(load.done() for load in loads)
                return asked >= before + 6

            await until(asked_on)
            await process.start()
            for name, serial in held.items():
                assert (await root.registry_says(f"/v1/networks/{name}"))["published"] >= serial
        stop.set()
        await asyncio.gather(*loads)
        assert complete
        for packet, at in acknowledged:

            async def found(packet: Packet = packet, at: float = at) -> bool:
                return await ask(packet, at)

            await until(found)
    finally:
        stop.set()
        await process.end(signal.SIGTERM)
        await root.registry.start()

    async def whole() -> bool:
        return bool((await root.ask(**RICE))["certificate"]["neighbours_complete"])

    await until(whole)
    check_whole(rice, RICE, await root.ask(**RICE))


class Jumping:
    """The machine's clock, set wrong by `wall` seconds; `steady` has passed besides, as while a machine sleeps."""

    wall = steady = 0.0

    def now(self) -> float:
        return time.time() + self.wall + self.steady

    def monotonic(self) -> float:
        return time.monotonic() + self.steady


async def test_a_clock_that_jumps_makes_no_certificate_wrong(registries: Registries, rice: Truth) -> None:
    """Ahead, back, and past the stale limit with nobody there to ask."""
    root = registries["root"]
    clock = Jumping()
    async with Federation.open(root.config, clock) as federation:

        async def ask() -> dict[str, Any]:
            answer = await federation.ask(**RICE, deadline_ms=10_000)
            found: dict[str, Any] = json.loads(json.dumps(answer.document()))
            if found["certificate"]["neighbours_complete"]:
                check_whole(rice, RICE, found)
            return found

        async def whole() -> bool:
            return bool((await ask())["certificate"]["neighbours_complete"])

        await until(whole)
        clock.wall = 2 * 3600.0  # what is read seems to be from long ago, and it is not known to be of one time
        certificate = (await ask())["certificate"]
        assert not certificate["neighbours_complete"]
        assert certificate["apart"]
        clock.wall = -2 * 3600.0
        await until(whole)
        clock.wall = 0.0
        await root.registry.stop()
        try:
            clock.steady = 60.0  # beyond the times to live
            answer = await ask()
            assert answer["certificate"]["stale"]
            assert not answer["certificate"]["neighbours_complete"]
            clock.steady += root.config.gateway.resolver.stale
            with pytest.raises(LookupFailed, match="Connect call failed"):
                await ask()
        finally:
            await root.registry.start()

    async def back() -> bool:
        return bool((await root.ask(**RICE))["certificate"]["neighbours_complete"])

    await until(back)
