"""Knot as signer and public face: others validate what it says, and its keys roll over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import dns.dnssec
import pytest

from registry.clock import SystemClock
from registry.errors import LookupFailed
from registry.geometry.cell import Naming
from registry.resolving.anchor import Anchors
from registry.resolving.authorities import Authorities
from registry.resolving.lookup import Lookups
from registry.resolving.validator import Validator
from tests.peers.knot_signed import SignedEdge, signed_edge, tie
from tests.peers.peers import ask, output_of, until
from tests.peers.primary import ORIGIN

NAMING = Naming("crash.vehicles", ORIGIN)
TIMEOUT_S = 5.0
KSK, ZSK = 257, 256  # flags, RFC 4034 section 2.1.1
CRASH = f"crash.vehicles.{ORIGIN}"


async def delv(edge: SignedEdge, home: Path, name: str, rtype: str, anchors: Sequence[str] = ()) -> str:
    """What delv, which validates by itself, says of a question. anchors: DNSKEY records, the edge's own by default."""
    file = home / "anchors"
    lines = []
    for anchor in anchors or (edge.anchor,):
        _, _, flags, protocol, algorithm, key = anchor.split(" ", 5)
        lines.append(f'"{ORIGIN}" static-key {flags} {protocol} {algorithm} "{key.replace(" ", "")}";\n')
    file.write_text(f"trust-anchors {{ {''.join(lines)} }};\n")
    return await output_of(
        "delv", "@127.0.0.1", "-p", str(edge.port), "-a", file, f"+root={ORIGIN}", name, rtype, ok=False
    )


@asynccontextmanager
async def lookups(edge: SignedEdge, anchor: str) -> AsyncIterator[Lookups]:
    """A gateway's own, which validate under the anchor."""
    clock = SystemClock()
    servers = Authorities(ORIGIN, [(edge.host, edge.port)], clock, dnssec=True)
    opened = Lookups(Validator(servers, Anchors.from_text(anchor), clock))
    yield opened
    await opened.close()


async def test_delv_agrees(tmp_path: Path) -> None:
    async with signed_edge(tmp_path) as edge, lookups(edge, edge.anchor) as asking:
        root = NAMING.cell((await asking.apex(NAMING, TIMEOUT_S)).value.generation, ())
        for name, rtype in ((CRASH, "TXT"), (root, "SVCB"), (f"north.net.{CRASH}", "URI"), (CRASH, "DS")):
            assert "; fully validated" in await delv(edge, tmp_path, name, rtype), name
        for name, rtype, why in ((f"nobody.{CRASH}", "SVCB", "nxdomain"), (CRASH, "URI", "nxrrset")):
            answer = await delv(edge, tmp_path, name, rtype)
            assert "; negative response, fully validated" in answer
            assert f"ncache {why}" in answer


# The shipped times, made short; what is waited for is looked at, never slept for.
SHORT = {
    "propagation-delay: 5m": "propagation-delay: 1s",
    "dnskey-ttl: 5m": "dnskey-ttl: 1s",
    "zone-max-ttl: 5m": "zone-max-ttl: 1s",
    "check-interval: 10s": "check-interval: 1s",
    "parent-delay: 1m": "parent-delay: 1s",
}
TTL = {"apex": "1s", "cell": "1s", "endpoint": "1s", "negative": "1s"}


async def keys(edge: SignedEdge, zone: str) -> dict[int, int]:
    """Flags of the published keys by key tag."""
    answer = await ask(edge.port, zone, "DNSKEY", tcp=True)
    assert answer is not None
    return {dns.dnssec.key_id(key): int(key.flags) for key in answer.answer[0]}


async def test_a_gateway_validates_under_the_anchor_and_under_no_other(tmp_path: Path) -> None:
    async with signed_edge(tmp_path) as edge:
        for anchor in (edge.anchor, "\n".join(edge.ds)):
            async with lookups(edge, anchor) as asking:
                apex = await asking.apex(NAMING, TIMEOUT_S)
                assert apex.value.generation >= 1
                found = await asking.network(NAMING, "north", TIMEOUT_S)
                assert len(found.value.endpoints) == 1
                cell = await asking.cell(
                    NAMING, apex.value.generation, (), apex.value.actions, apex.value.dimension, TIMEOUT_S
                )
                assert cell.value
        other = (await edge.keymgr(CRASH, "dnskey")).replace(CRASH, ORIGIN)
        async with lookups(edge, other) as asking:
            with pytest.raises(LookupFailed) as caught:
                await asking.apex(NAMING, TIMEOUT_S)
            assert caught.value.where["rcode"] == "BOGUS"


async def test_keys_roll_over_and_the_chain_never_breaks(tmp_path: Path) -> None:
    async with signed_edge(tmp_path, SHORT, ttl=TTL) as edge, lookups(edge, edge.anchor) as asking:
        before = await keys(edge, CRASH)

        async def replaced(flags: int) -> bool:
            """Whether the new key alone is published; and at each look, the answer validates."""
            assert "; fully validated" in await delv(edge, tmp_path, f"north.net.{CRASH}", "TXT"), edge.knot.log[-3000:]
            assert (await asking.network(NAMING, "north", TIMEOUT_S)).value.endpoints
            if flags == KSK:
                await tie(edge.primary, edge.knot)  # what an operator does when Knot says that it waits
                await edge.primary.cover("north")
            now = {tag for tag, flags_now in (await keys(edge, CRASH)).items() if flags_now == flags}
            return len(now) == 1 and not now & before.keys()

        for flags, kind in ((ZSK, "zsk"), (KSK, "ksk")):
            await edge.knotc("zone-key-rollover", CRASH, kind)
            await until(lambda flags=flags: replaced(flags), lambda: edge.knot.log[-4000:])  # type: ignore[misc]
        after = await keys(edge, CRASH)
        assert not before.keys() & after.keys()
        assert sorted(after.values()) == [ZSK, KSK]


async def test_the_origins_key_rolls_over_when_its_anchor_has_been_handed_out(tmp_path: Path) -> None:
    async with signed_edge(tmp_path, SHORT, ttl=TTL) as edge:
        before = await keys(edge, ORIGIN)
        await edge.knotc("zone-key-rollover", ORIGIN, "ksk")

        async def both() -> bool:
            return list((await keys(edge, ORIGIN)).values()).count(KSK) == 2 and "waiting" in edge.knot.log

        await until(both, lambda: edge.knot.log[-3000:])
        anchors = [line for line in (await edge.keymgr(ORIGIN, "dnskey")).splitlines() if line]
        assert len(anchors) == 2  # gateways take both until the roll-over is done
        assert edge.anchor in anchors

        async def done() -> bool:
            assert "; fully validated" in await delv(edge, tmp_path, CRASH, "TXT", anchors), edge.knot.log[-3000:]
            await output_of("knotc", "-c", edge.knot.configuration, "zone-ksk-submitted", ORIGIN, ok=False)
            return list((await keys(edge, ORIGIN)).values()).count(KSK) == 1

        await until(done, lambda: edge.knot.log[-3000:])
        assert before.keys() & (await keys(edge, ORIGIN)).keys() == {tag for tag, f in before.items() if f == ZSK}
        [new] = set(anchors) - {edge.anchor}
        assert "; fully validated" in await delv(edge, tmp_path, CRASH, "TXT", [new])
