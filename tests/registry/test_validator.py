"""Validation against an anchor: a chain of two zones, and everything that may be wrong with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import dns.dnssec
import dns.message
import dns.name
import dns.rdata
import dns.rdatatype
import dns.rrset
import dns.zone
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from zone_server import Edit, ZoneServer, zone_of

from registry.clock import ManualClock
from registry.dns.message import question
from registry.dns.wire import DNSKEY, DS, RRSIG, SVCB, TXT, name_to_wire
from registry.errors import ConfigError, LookupFailed
from registry.resolving.anchor import Anchors
from registry.resolving.authorities import Authorities
from registry.resolving.signature import MAX_TRIES, Signature, admissible, keys_of, verify
from registry.resolving.source import Found
from registry.resolving.validator import Validator
from tests.ports import free_port

ORIGIN = "kindred.internal."
APEX = "crash.vehicles.kindred.internal."
NOW = 1_800_000_000
LIFE_S = 7 * 86_400
TIMEOUT_S = 5.0
CELL = f"1.g17.{APEX}"
RECORDS = f"""\
@ 10 IN TXT "the text"
1.g17 60 IN SVCB 1 a.net.{APEX} key65280="x"
1.g17 60 IN SVCB 1 b.net.{APEX} key65280="y"
a.net 30 IN TXT "a network"
"""
PRIVATE = {
    "ECDSAP256SHA256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ED25519": ed25519.Ed25519PrivateKey.generate,
    "RSASHA256": lambda: rsa.generate_private_key(65537, 2048),
}


class Signed:
    """A zone signed by a key of its own."""

    def __init__(self, apex: str, text: str, algorithm: str = "ECDSAP256SHA256", start: int = NOW - 3600) -> None:
        private = PRIVATE[algorithm]()
        self.key = dns.dnssec.make_dnskey(private.public_key(), algorithm, flags=257)
        self.zone = zone_of(apex, text)
        with self.zone.writer() as writer:
            dns.dnssec.sign_zone(
                self.zone,
                writer,
                keys=[(private, self.key)],
                inception=start,
                expiration=start + LIFE_S,
                add_dnskey=True,
            )
        self.ds = dns.dnssec.make_ds(apex, self.key, "SHA256").to_text()


class Chain:
    """The origin's zone and a domain's below it, served by two servers; what they say may be bent."""

    def __init__(self, stack: AsyncExitStack, algorithm: str = "ECDSAP256SHA256", start: int = NOW - 3600) -> None:
        self._stack = stack
        self.clock = ManualClock(NOW)
        self.domain = Signed(APEX, f"ns IN A 127.0.0.2\n{RECORDS}", algorithm, start)
        delegation = "crash.vehicles 30 IN NS ns.crash.vehicles\nns.crash.vehicles 30 IN A 127.0.0.2\n"
        self.origin = Signed(
            ORIGIN, f"ns IN A 127.0.0.1\n{delegation}crash.vehicles 30 IN DS {self.domain.ds}\n", algorithm
        )
        self.port = free_port("127.0.0.1", "127.0.0.2")
        self.servers = [
            ZoneServer(self.origin.zone, "127.0.0.1", self.port),
            ZoneServer(self.domain.zone, "127.0.0.2", self.port),
        ]

    async def serve(self) -> Chain:
        for server in self.servers:
            await self._stack.enter_async_context(server)
        return self

    def bend(self, edit: Edit) -> None:
        """Change what both servers say."""
        for server in self.servers:
            server.edit = edit

    def validator(self, anchor: str = "", dnssec: bool = True) -> Validator:
        walk = Authorities(ORIGIN, [("127.0.0.1", self.port)], self.clock, dnssec=dnssec)
        anchors = Anchors.from_text(anchor or f"{ORIGIN} IN DS {self.origin.ds}")
        validator = Validator(walk, anchors, self.clock)
        self._stack.push_async_callback(validator.close)
        return validator

    async def refusal(self, name: str = CELL, rtype: int = SVCB, anchor: str = "", dnssec: bool = True) -> str:
        with pytest.raises(LookupFailed) as caught:
            await self.validator(anchor, dnssec).find(APEX, question(name, rtype), TIMEOUT_S)
        assert caught.value.where == {"rcode": "BOGUS"}, caught.value
        return caught.value.detail


@pytest.fixture
async def chain() -> AsyncIterator[Chain]:
    async with AsyncExitStack() as stack:
        yield await Chain(stack).serve()


@pytest.mark.parametrize("algorithm", PRIVATE)
async def test_what_is_signed_validates_by_a_ds_and_by_a_key(algorithm: str) -> None:
    async with AsyncExitStack() as stack:
        chain = await Chain(stack, algorithm).serve()
        origin, domain = chain.origin, chain.domain
        for anchor in (f"{ORIGIN} IN DS {origin.ds}", f"{ORIGIN} 30 IN DNSKEY {origin.key}", f"{APEX} DS {domain.ds}"):
            validator = chain.validator(anchor)
            found = await validator.find(APEX, question(CELL, SVCB), TIMEOUT_S)
            assert (len(found.rdatas), found.ttl_s, found.serial) == (2, 60, NOW)
            assert (await validator.find(APEX, question(APEX, TXT), TIMEOUT_S)).rdatas == (b"\x08the text",)


async def test_the_chain_is_climbed_once_by_many(chain: Chain) -> None:
    validator = chain.validator()
    asked = [question(CELL, SVCB), question(APEX, TXT), question(f"a.net.{APEX}", TXT)]
    await asyncio.gather(*(validator.find(APEX, each, TIMEOUT_S) for each in asked * 10))
    questions = [asked for server in chain.servers for asked in server.asked]
    assert (
        questions.count((APEX, "DNSKEY")) == questions.count((ORIGIN, "DNSKEY")) == questions.count((APEX, "DS")) == 1
    )


async def test_what_does_not_exist_is_passed_on(chain: Chain) -> None:
    with pytest.raises(LookupFailed) as caught:
        await chain.validator().find(APEX, question(f"9.{CELL}", SVCB), TIMEOUT_S)
    assert caught.value.where["rcode"] == "NXDOMAIN"


async def test_a_signature_ends_the_time_to_live(chain: Chain) -> None:
    chain.clock.jump(LIFE_S - 3600 - 7)
    assert (await chain.validator().find(APEX, question(CELL, SVCB), TIMEOUT_S)).ttl_s == 7


@pytest.mark.parametrize(
    ("seconds", "why"), [(LIFE_S - 3600 + 5, "expired 5 s ago"), (-3600 - 5, "not valid yet, but in 5 s")]
)
async def test_signatures_out_of_their_time_are_refused(chain: Chain, seconds: float, why: str) -> None:
    chain.clock.jump(seconds)
    assert why in await chain.refusal()


async def test_keys_are_asked_for_anew_when_their_time_is_over(chain: Chain) -> None:
    validator = chain.validator()
    await validator.find(APEX, question(APEX, TXT), TIMEOUT_S)
    chain.clock.advance(3601)
    chain.bend(lambda response: response.answer.clear())
    with pytest.raises(LookupFailed):
        await validator.find(APEX, question(APEX, TXT), TIMEOUT_S)


def only(name: str, rtype: str, change: Callable[[dns.message.Message], object]) -> Edit:
    """`change` the answers to one question."""

    def edit(response: dns.message.Message) -> None:
        [asked] = response.question
        if asked.name.to_text() == name and dns.rdatatype.to_text(asked.rdtype) == rtype:
            change(response)

    return edit


def stripped(response: dns.message.Message) -> None:
    response.answer = [rrset for rrset in response.answer if rrset.rdtype != RRSIG]


def exchanged(response: dns.message.Message) -> None:
    """Another target under the same signature."""
    name = response.answer[0].name
    response.answer[0] = dns.rrset.from_text(name, 60, "IN", "SVCB", f"1 c.net.{APEX}", f"1 b.net.{APEX} key65280=y")


def shorter(response: dns.message.Message) -> None:
    response.answer[0] = dns.rrset.from_rdata(response.answer[0].name, 60, response.answer[0][0])


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (only(CELL, "SVCB", stripped), "not signed"),
        (only(CELL, "SVCB", exchanged), "does not verify"),
        (only(CELL, "SVCB", shorter), "does not verify"),
        (only(APEX, "DNSKEY", stripped), "its keys are not signed"),
        (only(APEX, "DS", stripped), "not signed"),
        (only(ORIGIN, "DNSKEY", stripped), "its keys are not signed"),
        (only(APEX, "SOA", stripped), "not signed"),
    ],
)
async def test_what_was_bent_on_the_way_is_refused(chain: Chain, edit: Edit, why: str) -> None:
    chain.bend(edit)
    assert why in await chain.refusal()


async def test_a_signature_of_another_name_is_refused(chain: Chain) -> None:
    """The records and the signature of one name, handed out for another."""

    def edit(response: dns.message.Message) -> None:
        if response.question[0].name.to_text().startswith("2.g17."):
            source = chain.domain.zone
            name = dns.name.from_text(CELL)
            response.set_rcode(0)
            response.authority.clear()
            found = [source.find_rrset(name, "SVCB"), source.find_rrset(name, "RRSIG", "SVCB")]
            response.answer = [dns.rrset.from_rdata_list(f"2.g17.{APEX}", each.ttl, list(each)) for each in found]

    chain.bend(edit)
    assert "does not verify" in await chain.refusal(f"2.g17.{APEX}")


async def test_a_key_that_no_ds_speaks_of_is_refused(chain: Chain) -> None:
    stranger = Signed(APEX, RECORDS)
    chain.servers[1].zone = stranger.zone
    assert "none of its keys" in await chain.refusal()


async def test_another_anchor_is_another_trust(chain: Chain) -> None:
    assert "none of its keys" in await chain.refusal(anchor=f"{ORIGIN} DS {Signed(ORIGIN, '').ds}")
    assert "no anchor stands above" in await chain.refusal(anchor=f"elsewhere. DS {chain.origin.ds}")


async def test_a_delegation_without_a_ds_breaks_the_chain(chain: Chain) -> None:
    chain.servers[0].zone = Signed(
        ORIGIN, "x IN TXT x\ncrash.vehicles NS ns.crash.vehicles\nns.crash.vehicles A 127.0.0.2\n"
    ).zone
    with chain.origin.zone.writer() as writer:
        writer.delete("crash.vehicles.kindred.internal.", "DS")
        writer.delete("crash.vehicles.kindred.internal.", "RRSIG", "DS")
    assert "it has no DS record" in await chain.refusal()


async def test_what_is_not_signed_at_all_is_refused(chain: Chain) -> None:
    assert "not signed" in await chain.refusal(dnssec=False)


CELL_WIRE, APEX_WIRE = name_to_wire(CELL), name_to_wire(APEX)
GOOD = Signature(SVCB, 13, 6, 60, NOW + 9, NOW - 9, 7, APEX_WIRE, b"", b"")


@pytest.mark.parametrize(
    ("changes", "name", "rtype", "why"),
    [
        ({"covered": TXT}, CELL_WIRE, SVCB, "covers another type"),
        ({"labels": 5}, CELL_WIRE, SVCB, "a wildcard's"),
        ({"signer": name_to_wire(f"x.{APEX}")}, CELL_WIRE, SVCB, "no say in it"),
        ({"signer": name_to_wire("rash.vehicles.kindred.internal.")}, CELL_WIRE, SVCB, "no say in it"),
        ({"covered": DS, "labels": 4}, APEX_WIRE, DS, "no say in it"),
    ],
)
def test_signatures_that_may_not_cover_it(changes: dict[str, object], name: bytes, rtype: int, why: str) -> None:
    admissible(GOOD, CELL_WIRE, SVCB, NOW)
    with pytest.raises(LookupFailed, match=why):
        admissible(replace(GOOD, **changes), name, rtype, NOW)  # type: ignore[arg-type]


def test_a_ds_speaks_of_one_key_of_one_owner() -> None:
    signed = Signed(APEX, RECORDS)
    [key] = keys_of([signed.key.to_wire()])
    ds = dns.dnssec.make_ds(APEX, signed.key, "SHA256").to_wire()
    assert key.has_digest(APEX_WIRE, ds)
    assert not key.has_digest(CELL_WIRE, ds)
    assert not key.has_digest(APEX_WIRE, ds[:-1] + bytes([ds[-1] ^ 1]))
    assert not key.has_digest(APEX_WIRE, b"")
    weak = dns.dnssec.make_ds(APEX, signed.key, "SHA1", policy=dns.dnssec.allow_all_policy)
    assert not key.has_digest(APEX_WIRE, weak.to_wire())


@pytest.mark.parametrize("flags", [256 | 128, 0])
def test_keys_that_are_revoked_or_no_zone_keys_are_not_used(flags: int) -> None:
    wire = Signed(APEX, RECORDS).key.to_wire()
    assert keys_of([flags.to_bytes(2, "big") + wire[2:]]) == ()
    assert keys_of([wire[:3] + b"\5" + wire[4:]]) == ()  # RSASHA1


def test_many_signatures_of_one_tag_are_not_all_tried() -> None:
    [key] = keys_of([Signed(APEX, RECORDS).key.to_wire()])
    trap = [replace(GOOD, tag=key.tag, octets=bytes(64))] * (MAX_TRIES + 1)
    with pytest.raises(LookupFailed, match="would have to be tried"):
        verify(trap, [key], CELL_WIRE, SVCB, [b"x"])


class Carrier:
    """A source in memory: what a real one carried once, with some octets changed."""

    def __init__(self, found: dict[bytes, Found]) -> None:
        self.found = found
        self.flip: tuple[bytes, Callable[[Found], Found]] | None = None

    async def find(self, zone: str, asked: bytes, timeout_s: float) -> Found:  # noqa: ARG002
        found = self.found[asked]
        return self.flip[1](found) if self.flip is not None and self.flip[0] == asked else found

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
async def carrier(chain: Chain) -> tuple[Carrier, Anchors]:
    walk = Authorities(ORIGIN, [("127.0.0.1", chain.port)], chain.clock, dnssec=True)
    asked = [(CELL, SVCB), (APEX, DNSKEY), (ORIGIN, DNSKEY), (APEX, DS)]
    kept = {
        question(*each): await walk.find(ORIGIN if each[0] == ORIGIN else APEX, question(*each), TIMEOUT_S)
        for each in asked
    }
    await walk.close()
    return Carrier(kept), Anchors.from_text(f"{ORIGIN} IN DS {chain.origin.ds}")


def changed(found: Found, part: str, index: int, bit: int) -> Found:
    """One bit of the RDATA or of the signatures is another."""
    values = getattr(found, part)
    octets = bytearray(b"".join(values))
    octets[index % len(octets)] ^= 1 << bit
    position, cut = 0, []
    for value in values:
        cut.append(bytes(octets[position : position + len(value)]))
        position += len(value)
    return replace(found, **{part: tuple(cut)})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(
    st.sampled_from(["rdatas", "signatures"]),
    st.integers(0, 10_000),
    st.integers(0, 7),
    st.sampled_from([(CELL, SVCB), (APEX, DNSKEY), (ORIGIN, DNSKEY), (APEX, DS)]),
)
async def test_no_bit_can_be_changed(
    carrier: tuple[Carrier, Anchors], part: str, index: int, bit: int, where: tuple[str, int]
) -> None:
    source, anchors = carrier
    genuine = source.found[question(*where)]
    other = changed(genuine, part, index, bit)
    # The signer's name may come in any case; there is one signature of each.
    assume(other.rdatas != genuine.rdatas or other.signatures[0].lower() != genuine.signatures[0].lower())
    source.flip = (question(*where), lambda _: other)
    with pytest.raises(LookupFailed) as caught:
        await Validator(source, anchors, ManualClock(NOW)).find(APEX, question(CELL, SVCB), TIMEOUT_S)
    assert caught.value.where["rcode"] == "BOGUS"
    source.flip = None
    assert (await Validator(source, anchors, ManualClock(NOW)).find(APEX, question(CELL, SVCB), TIMEOUT_S)).rdatas


async def test_no_forged_answer_of_1e5_is_accepted(carrier: tuple[Carrier, Anchors]) -> None:
    """Forged at the last link, the keys being known: what a flood of poison would bring."""
    source, anchors = carrier
    validator = Validator(source, anchors, ManualClock(NOW))
    asked = question(CELL, SVCB)
    true = await validator.find(APEX, asked, TIMEOUT_S)
    genuine = source.found[asked]
    signature = genuine.signatures[0]
    for number in range(100_000):
        octets = number.to_bytes(4, "big")
        poison = (b"\0\1" + octets,)
        match number % 20:
            case 0:  # the true signature under other records: these cost a verification each
                forged = replace(genuine, rdatas=poison)
            case 1:
                forged = replace(genuine, rdatas=poison, signatures=(signature[:8] + octets + signature[12:],))
            case odd if odd % 2:
                forged = replace(genuine, rdatas=poison, signatures=(signature[: number % len(signature)],))
            case _:
                forged = replace(genuine, rdatas=poison, signatures=())
        source.found[asked] = forged
        with pytest.raises(LookupFailed) as caught:
            await validator.find(APEX, asked, TIMEOUT_S)
        assert caught.value.where == {"rcode": "BOGUS"}
    source.found[asked] = genuine
    assert await validator.find(APEX, asked, TIMEOUT_S) == true


@pytest.mark.parametrize("text", ["", "nonsense", "a. IN TXT x", "a. IN DS 1 13 2", ";only a comment"])
def test_anchors_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="anchor"):
        Anchors.from_text(text)
