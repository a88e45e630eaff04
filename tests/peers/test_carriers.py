"""The same answers whoever carries the registry's records: the gateway's own walk, Unbound, copies; signed and not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.federation import Federation
from registry.errors import LookupFailed
from registry.likeness.fingerprint import to_base64
from tests.acceptance.federated import Federated, federated, until, write_slice
from tests.acceptance.truth import Truth, places
from tests.peers.carriers import TRANSFERRED, carried, signed_by_knot, unbound
from tests.peers.peers import Peer, output_of, serving

ORIGIN = "kindred.internal."
DOMAIN = "crash.vehicles"
TEXT = """\
version: 1
data_dir: .
registry:
  dns: @dns
  http: @http
  coalesce: 20ms
  keep: 2h
  ttl: {apex: 1s, cell: 60s, endpoint: 1s, negative: 1s}
  keys: {transfer: {secret: "file:keys/transfer.tsig"}}
  secondaries: {knot: {notify: @knot, key: transfer}}
  ds: ds.txt
domains:
  crash.vehicles: {schema: $ROOT/examples/domains/crash.yaml}
  rice.agriculture: {schema: $ROOT/examples/domains/rice.yaml}
networks:
  crash-{site}:
    {domain: crash.vehicles, process: hall, listen: @hall, data: $HOME/nass_cds_crash.csv,
     each: {site: {column: site_psu, parts: 6}}}
  rice-{region}:
    {domain: rice.agriculture, process: hall, listen: @hall, data: $HOME/rice_farms_indonesia.csv,
     each: {region: [gunungwangi, ciwangi, malausma, langan, sukaambit, wargabinangun]}}
gateway: {listen: @gateway, resolver: {stale: 1d}}
"""


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[Federated]:
    for name, every in (("nass_cds_crash", 20), ("rice_farms_indonesia", 2)):
        write_slice(name, home, every)
    async with federated(home, TEXT) as kindred:
        await kindred.deposit()
        yield kindred


def questions(truth: Truth, n: int, seed: int) -> list[dict[str, Any]]:
    """Halfway between members drawn by lot."""
    points = np.array([packet.fingerprint for packet in truth.packets.values()])
    draw = np.random.default_rng(seed)
    space = truth.schema.space.hex()
    return [
        {
            "domain": truth.domain,
            "fingerprint": to_base64(
                points[draw.choice(len(points), 2, replace=False)].mean(axis=0).astype(np.float32)
            ),
            "space": space,
            "k": int(draw.integers(1, 40)),
            "per": str(draw.choice(["action", "all"])),
            "deadline_ms": 20_000,
        }
        for _ in range(n)
    ]


async def ask(federation: Federation, question: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps((await federation.ask(**question)).document()))
    return found


async def test_the_same_answers_from_all_three(tmp_path: Path) -> None:
    async with running(tmp_path) as kindred, AsyncExitStack() as stack:
        dns = kindred.config.registry.dns
        [peer] = await stack.enter_async_context(serving(unbound(tmp_path, dns.port)))
        chosen = {
            "walk": carried(kindred.config, "walk", walk=str(dns)),
            "recursive": carried(kindred.config, "recursive", recursive=f"127.0.0.1:{peer.port}"),
            "copy": carried(kindred.config, "copy", copy=str(dns), key="transfer"),
        }
        gateways = {name: await stack.enter_async_context(Federation.open(config)) for name, config in chosen.items()}
        began = kindred.federation.clock.now()
        for domain in kindred.config.domains:
            truth = Truth(kindred.config, domain)
            for question in questions(truth, 12, seed=len(domain)):
                answers = {name: await ask(federation, question) for name, federation in gateways.items()}
                for name, answer in answers.items():
                    certificate = answer["certificate"]
                    assert places(answer) == truth.places(question), name
                    assert certificate["missing"] == []
                    if name == "recursive":
                        assert (certificate["as_of"], certificate["neighbours_complete"]) == (None, False)
                        assert "age-unknown" in {warning["code"] for warning in answer["warnings"]}
                    else:
                        assert certificate["neighbours_complete"] is True
                        assert began - 60 < certificate["as_of"] <= kindred.federation.clock.now() + 1
                distances = {
                    name: [each["distance"] for each in answer["neighbours"]] for name, answer in answers.items()
                }
                assert distances["walk"] == distances["recursive"] == distances["copy"]

        # The registry goes away: the copy serves on, and its age grows; none of them says what is not so.
        [question] = questions(Truth(kindred.config, DOMAIN), 1, seed=3)
        last = {
            name: (await ask(federation, question))["certificate"]["as_of"] for name, federation in gateways.items()
        }
        await kindred.registry.stop()
        answer = await ask(gateways["copy"], question)
        assert places(answer) == Truth(kindred.config, DOMAIN).places(question)
        assert answer["certificate"]["as_of"] == last["copy"]

        async def stale() -> bool:
            certificate = (await ask(gateways["walk"], question))["certificate"]
            return bool(certificate["stale"]) and not certificate["neighbours_complete"]

        await until(stale)
        certificate = (await ask(gateways["recursive"], question))["certificate"]
        assert (certificate["as_of"], certificate["neighbours_complete"]) == (None, False)


async def test_signed_at_the_edge(tmp_path: Path) -> None:
    """Knot signs what the registry publishes; the gateway validates, whoever carries it."""
    async with running(tmp_path) as kindred, AsyncExitStack() as stack:
        knot, anchor = await stack.enter_async_context(signed_by_knot(kindred.config, tmp_path))
        [peer] = await stack.enter_async_context(serving(unbound(tmp_path, knot.port)))

        signed = {"anchor": "file:anchor"}
        chosen = {
            "walk": carried(kindred.config, "walk", walk=f"127.0.0.1:{knot.port}", **signed),
            "recursive": carried(kindred.config, "recursive", recursive=f"127.0.0.1:{peer.port}", **signed),
            "copy": carried(kindred.config, "copy", copy=f"127.0.0.1:{knot.port}", key="transfer", **signed),
        }
        now = kindred.federation.clock.now
        gateways = {name: await stack.enter_async_context(Federation.open(config)) for name, config in chosen.items()}
        truth = Truth(kindred.config, DOMAIN)
        for question in questions(truth, 5, seed=5):
            for name, federation in gateways.items():
                answer = await ask(federation, question)
                certificate = answer["certificate"]
                assert places(answer) == truth.places(question), name
                assert certificate["missing"] == []
                assert certificate["neighbours_complete"] is True, (name, certificate)
                if name == "recursive":  # as old as the oldest signature, which Knot dates back by an hour and a half
                    assert now() - 2 * 3600 < certificate["as_of"] <= now() - 1.5 * 3600 + 1
                else:
                    assert now() - 60 < certificate["as_of"] <= now() + 1

        # Whoever does not know the anchor's key gets nothing believed. delv, which validates by itself, agrees.
        name = f"{DOMAIN}.{ORIGIN}"
        assert "; fully validated" in await delv(tmp_path, knot.port, anchor.read_text(), name)
        wrong = tmp_path / "wrong"
        tag, algorithm, kind, digest = anchor.read_text().split("DS ")[1].split()[:4]
        wrong.write_text(f"{ORIGIN} DS {tag} {algorithm} {kind} {digest[:-4]}0000\n")
        assert "broken trust chain" in await delv(tmp_path, knot.port, wrong.read_text(), name)
        [question] = questions(truth, 1, seed=6)
        for by in ({"walk": f"127.0.0.1:{knot.port}"}, {"copy": f"127.0.0.1:{knot.port}", "key": "transfer"}):
            config = carried(kindred.config, "wrong", anchor="file:wrong", **by)
            async with Federation.open(config) as federation:
                with pytest.raises(LookupFailed, match="none of its keys"):
                    await federation.ask(**question)
        # Copies of what nobody signed are not believed either.
        unsigned = carried(kindred.config, "unsigned", copy=str(kindred.config.registry.dns), key="transfer", **signed)
        async with Federation.open(unsigned) as federation:
            with pytest.raises(LookupFailed, match="not signed"):
                await federation.ask(**question)


async def delv(home: Path, port: int, ds: str, name: str) -> str:
    """What delv says of the TXT of `name`, as of the server on this port, with a DS record for an anchor."""
    tag, algorithm, kind, digest = ds.split("DS ")[1].split()[:4]
    trusted = home / "trusted"
    trusted.write_text(f'trust-anchors {{ "{ORIGIN}" static-ds {tag} {algorithm} {kind} "{digest}"; }};\n')
    where = ["@127.0.0.1", "-p", str(port), f"+root={ORIGIN}"]
    return await output_of("delv", *where, "-a", trusted, name, "TXT", ok=False)


async def test_one_secondary_lags_and_as_of_tells(tmp_path: Path) -> None:
    """Knot, frozen: what it says stays right, as of then, whoever carries it; the registry itself is up to date."""
    async with running(tmp_path) as kindred, AsyncExitStack() as stack:
        dns = kindred.config.registry.dns
        secret = (tmp_path / "keys" / "transfer.tsig").read_text().strip()
        words = {"SECRET": secret, "PRIMARY": f"127.0.0.1@{dns.port}", "ORIGIN": ORIGIN.removesuffix(".")}
        knot = Peer("knot", "knot-secondary.conf", tmp_path / "knot", {**words, **TRANSFERRED})
        resolver = unbound(tmp_path, knot.port)
        await stack.enter_async_context(serving(knot, resolver))
        apex = f"{DOMAIN}.{ORIGIN}"
        for zone in (ORIGIN, apex):
            await knot.has(zone, 1)
        await output_of("knotc", "-c", knot.configuration, "-b", "zone-freeze", apex)
        held = await knot.serial(apex)
        assert held is not None
        registry = Peer("registry", "", tmp_path, {}, dns.port)
        await kindred.registry.stop()
        await kindred.registry.start()
        await registry.has(apex, held + 1)  # published again, though nothing has changed
        truth = Truth(kindred.config, DOMAIN)
        [question] = questions(truth, 1, seed=9)
        both = [f"127.0.0.1:{knot.port}", str(dns)]
        for order, lags in ((both, True), (both[::-1], False)):
            async with Federation.open(carried(kindred.config, f"lags-{lags}", walk=order)) as federation:
                answer = await ask(federation, question)
            assert places(answer) == truth.places(question)
            assert answer["certificate"]["neighbours_complete"] is True
            assert (answer["certificate"]["as_of"] == held) is lags
        copy = {"copy": f"127.0.0.1:{knot.port}", "key": "transfer"}
        for by, as_of in ((copy, held), ({"recursive": f"127.0.0.1:{resolver.port}"}, None)):
            async with Federation.open(carried(kindred.config, "behind", **by)) as federation:
                answer = await ask(federation, question)
            assert places(answer) == truth.places(question)
            assert answer["certificate"]["as_of"] == as_of
            assert answer["certificate"]["neighbours_complete"] is (as_of is not None)
