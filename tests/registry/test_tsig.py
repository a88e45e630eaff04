"""Transaction signatures: dnspython signs and checks on the other side; what does not hold is refused by name."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable

import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.tsig
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.dns.tsig import (
    BADKEY,
    BADSIG,
    BADTIME,
    BADTRUNC,
    Seal,
    TsigKey,
    by_owner,
    check,
    find,
    open_answer,
    sign_question,
)
from registry.dns.wire import FORMERR, NOTAUTH
from registry.errors import ConfigError, SignatureError

NOW = 1_800_000_000
SECRET = b"s" * 32
KEYS = by_owner([TsigKey("transfer.", SECRET), TsigKey("long.name.of.a.key.", SECRET, "hmac-sha512")])


def now() -> float:
    return NOW + 0.5


def signed(
    name: str = "transfer.", secret: bytes = SECRET, algorithm: str = "hmac-sha256", at: int = NOW, fudge: int = 300
) -> tuple[bytes, bytes]:
    """A question signed by dnspython, and its MAC."""
    message = dns.message.make_query("crash.kindred.internal.", "SOA", id=4711)
    plain = message.to_wire()
    key = dns.tsig.Key(name, secret, algorithm)
    empty = dns.tsig.dns.rdtypes.ANY.TSIG.TSIG  # type: ignore[attr-defined]
    rdata, _ = dns.tsig.sign(plain, key, empty(255, 250, key.algorithm, at, fudge, b"", 4711, 0, b""), at, b"")  # type: ignore[no-untyped-call]
    body = rdata.to_wire()
    record = key.name.to_wire() + struct.pack("!HHIH", 250, 255, 0, len(body)) + body
    return plain[:10] + b"\0\1" + plain[12:] + record, rdata.mac


def shown(wire: bytes) -> tuple[int, int, bytes, bytes]:
    """rcode, TSIG error, MAC and other data of an answer."""
    found = find(wire)
    assert found is not None
    return wire[3] & 0xF, found.error, found.mac, found.other


@pytest.mark.parametrize(("name", "algorithm"), [("transfer.", "hmac-sha256"), ("long.name.of.a.key.", "hmac-sha512")])
def test_what_holds_is_stripped_and_its_answers_chain(name: str, algorithm: str) -> None:
    query, mac = signed(name, algorithm=algorithm)
    checked = check(KEYS, query, now)
    assert checked.failure is None
    assert checked.seal is not None
    assert checked.message == dns.message.make_query("crash.kindred.internal.", "SOA", id=4711).to_wire()
    context = None
    key = dns.tsig.Key(name, SECRET, algorithm)
    for _ in range(3):
        answer = checked.seal.sign(checked.message)
        assert len(answer) - len(checked.message) <= checked.seal.key.room
        found = find(answer)
        assert found is not None
        context = dns.tsig.validate(  # type: ignore[no-untyped-call]
            answer, key, key.name, found.rdata(), NOW, mac, found.start, context, multi=True
        )


def test_an_unsigned_question_is_left_as_it_is() -> None:
    wire = dns.message.make_query("crash.kindred.internal.", "SOA").to_wire()
    assert check(KEYS, wire, now).message == wire
    assert check(KEYS, wire, now).seal is None


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"name": "stranger."}, BADKEY),
        ({"algorithm": "hmac-sha512"}, BADKEY),
        ({"secret": b"t" * 32}, BADSIG),
    ],
)
def test_a_wrong_key_is_refused_by_name_and_unsigned(changes: dict[str, object], error: int) -> None:
    checked = check(KEYS, signed(**changes)[0], now)  # type: ignore[arg-type]
    assert checked.failure is not None
    assert (checked.seal, checked.error) == (None, error)
    assert shown(checked.failure) == (NOTAUTH, error, b"", b"")


def test_a_changed_question_is_refused() -> None:
    query, _ = signed()
    assert check(KEYS, query.replace(b"crash", b"trash"), now).error == BADSIG


@pytest.mark.parametrize(("skew", "fine"), [(-301, False), (-300, True), (300, True), (301, False)])
def test_a_question_of_another_time_is_told_ours_signed(skew: int, fine: bool) -> None:
    query, mac = signed(at=NOW + skew)
    checked = check(KEYS, query, now)
    assert (checked.failure is None) is fine
    if checked.failure is not None:
        rcode, error, _, other = shown(checked.failure)
        assert (rcode, error, int.from_bytes(other, "big")) == (NOTAUTH, BADTIME, NOW)
        found = find(checked.failure)
        assert found is not None
        assert found.time == NOW + skew  # RFC 8945 section 5.2.3: as the question said it
        key = dns.tsig.Key("transfer.", SECRET, "hmac-sha256")
        with pytest.raises(dns.tsig.PeerBadTime):
            dns.tsig.validate(  # type: ignore[no-untyped-call]
                checked.failure, key, key.name, found.rdata(), NOW, mac, found.start
            )


@pytest.mark.parametrize(("length", "error"), [(16, BADTRUNC), (31, BADTRUNC), (15, 0), (33, 0), (0, 0)])
def test_macs_of_other_lengths(length: int, error: int) -> None:
    query, mac = signed()
    found = find(query)
    assert found is not None
    other = (mac + mac)[:length]
    body = found.rdata(mac=other).to_wire()
    rest = struct.pack("!HHIH", 250, 255, 0, len(body)) + body
    checked = check(KEYS, query[: found.start] + found.owner + rest, now)
    assert checked.failure is not None
    assert checked.error == error
    assert checked.failure[3] & 0xF == (NOTAUTH if error else FORMERR)


def test_a_signature_that_is_not_the_last_record_is_malformed() -> None:
    query, _ = signed()
    found = find(query)
    assert found is not None
    record = query[found.start :]
    for broken in (query[:10] + b"\0\2" + query[12:] + record, query + b"\0", query[:-1]):
        checked = check(KEYS, broken, now)
        assert checked.failure is not None
        assert (checked.error, checked.failure[3] & 0xF) == (0, FORMERR)


@given(st.data())
def test_no_octets_make_it_fail(data: st.DataObject) -> None:
    query = bytearray(signed()[0])
    for _ in range(data.draw(st.integers(1, 6))):
        query[data.draw(st.integers(0, len(query) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(query[: data.draw(st.integers(12, len(query)))])
    checked = check(KEYS, cut, now)
    assert checked.seal is None or bytes(query) == signed()[0] or checked.message[2:] == cut[2 : len(checked.message)]


class TestAsking:
    """Our own signed questions, and what answers them."""

    KEY = TsigKey("transfer.", SECRET)

    def test_dnspython_takes_our_signature(self) -> None:
        plain = dns.message.make_query("crash.kindred.internal.", "SOA").to_wire()
        query, mac = sign_question(plain, self.KEY, now)
        checked = check(KEYS, query, now)
        assert checked.message == plain
        ring = {dns.name.from_text("transfer."): dns.tsig.Key("transfer.", SECRET, "hmac-sha256")}
        assert find(query).mac == mac  # type: ignore[union-attr]
        with pytest.raises(dns.tsig.BadTime):  # which comes after the MAC
            dns.message.from_wire(query, keyring=ring)

    def test_an_answer_is_opened(self) -> None:
        plain = dns.message.make_query("crash.kindred.internal.", "SOA").to_wire()
        query, mac = sign_question(plain, self.KEY, now)
        seal = check(KEYS, query, now).seal
        assert seal is not None
        assert open_answer(seal.sign(plain), self.KEY, mac, now) == plain

    @pytest.mark.parametrize(
        ("spoil", "what"),
        [
            (lambda plain, _: plain, "not signed"),
            (lambda plain, _: plain[:9], "no DNS message"),
            (lambda plain, mac: Seal(TestAsking.KEY, mac[::-1], now).sign(plain), "does not hold"),
            (lambda plain, mac: Seal(TestAsking.KEY, mac, lambda: NOW + 400).sign(plain), "does not hold"),
            (lambda plain, mac: Seal(TestAsking.KEY, mac, now).sign(plain, BADKEY), "BADKEY"),
        ],
    )
    def test_another_answer_is_not(self, spoil: Callable[[bytes, bytes], bytes], what: str) -> None:
        plain = dns.message.make_query("crash.kindred.internal.", "SOA").to_wire()
        _, mac = sign_question(plain, self.KEY, now)
        with pytest.raises(SignatureError, match=what):
            open_answer(spoil(plain, mac), self.KEY, mac, now)


def test_unusable_secrets_are_named_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="at least 16"):
        TsigKey("k.", b"short")
    with pytest.raises(ConfigError, match="hmac-md5"):
        TsigKey("k.", SECRET, "hmac-md5")
    with pytest.raises(ConfigError, match="not base64") as caught:
        TsigKey.from_base64("k.", "hunter2 hunter2!")
    assert "hunter2" not in str(caught.value)
    assert TsigKey.from_base64("k.", base64.b64encode(SECRET).decode() + "\n").key.secret == SECRET
