"""Transaction signatures (RFC 8945): who asks, where a question is signed, and answers signed for them.

The cryptography and the digests are dnspython's; reading is our own, since what comes in is hostile.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import dns.exception
import dns.name
import dns.tsig
from dns.rdtypes.ANY.TSIG import TSIG as TsigRdata

from registry.dns.wire import ANY, FORMERR, HEADER, NOTAUTH, OPCODE_MASK, QR, TSIG, name_at, name_to_wire, skip_name
from registry.errors import ConfigError, SignatureError

ALGORITHMS = ("hmac-sha256", "hmac-sha384", "hmac-sha512")
FUDGE_S = 300  # RFC 8945 section 10
MIN_SECRET = 16  # octets
BADSIG, BADKEY, BADTIME, BADTRUNC = 16, 17, 18, 22
NAMES = {BADSIG: "BADSIG", BADKEY: "BADKEY", BADTIME: "BADTIME", BADTRUNC: "BADTRUNC"}

_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_TIMES = struct.Struct("!HIHH")  # time signed (48 bits), fudge, MAC size
_TAIL = struct.Struct("!HHH")  # original id, error, other length

_sign: Any = dns.tsig.sign  # dnspython does not say its types here
_validate: Any = dns.tsig.validate
_rdata: Any = TsigRdata

Now = Callable[[], float]


class TsigKey:
    """A shared secret under a name; both sides of a transfer hold it."""

    def __init__(self, name: str, secret: bytes, algorithm: str = "hmac-sha256") -> None:
        """Raises ConfigError."""
        if algorithm not in ALGORITHMS:
            raise ConfigError(f"the algorithm {algorithm!r:.40} is not taken; one of {', '.join(ALGORITHMS)}")
        if len(secret) < MIN_SECRET:
            raise ConfigError(f"a TSIG secret has at least {MIN_SECRET} octets, found {len(secret)}")
        self.name = name
        self.owner = name_to_wire(name)
        self.algorithm = algorithm
        self.key = dns.tsig.Key(_name(self.owner), secret, dns.name.from_text(algorithm))

    @classmethod
    def from_base64(cls, name: str, text: str, algorithm: str = "hmac-sha256") -> TsigKey:
        """`text`: as Knot, NSD and BIND write secrets. Raises ConfigError, which does not show the secret."""
        try:
            secret = base64.b64decode(text.strip(), validate=True)
        except binascii.Error:
            raise ConfigError(f"the secret of the TSIG key {name} is not base64") from None
        return cls(name, secret, algorithm)

    @property
    def room(self) -> int:
        """Octets that a signature by this key adds to a message, at most."""
        size: int = dns.tsig.mac_sizes[self.key.algorithm]
        return len(self.owner) + _RECORD.size + len(self.algorithm) + 2 + _TIMES.size + size + _TAIL.size


@dataclass(frozen=True, slots=True)
class Found:
    """The TSIG record that ends a message, as it stands there. start: where it begins."""

    start: int
    owner: bytes
    algorithm: bytes
    time: int
    fudge: int
    mac: bytes
    original_id: int
    error: int
    other: bytes

    def rdata(self, **changes: Any) -> Any:
        """As dnspython has it."""
        fields = {
            "algorithm": _name(self.algorithm),
            "time_signed": self.time,
            "fudge": self.fudge,
            "mac": self.mac,
            "original_id": self.original_id,
            "error": self.error,
            "other": self.other,
        }
        return _rdata(ANY, TSIG, **{**fields, **changes})


def find(message: bytes) -> Found | None:
    """The TSIG record of a message, which is its last one (RFC 8945 section 5.1).

    Raises ValueError, IndexError or struct.error for what is no message, or has one elsewhere, or two.
    """
    _, _, questions, *counts = _HEADER.unpack_from(message)
    position = HEADER
    for _ in range(questions):
        position = skip_name(message, position) + 4
    total = sum(counts)
    for number in range(1, total + 1):
        start = position
        position = skip_name(message, start)
        rtype, rclass, ttl, length = _RECORD.unpack_from(message, position)
        position += _RECORD.size + length
        if position > len(message):
            raise ValueError("a record cut short")
        if rtype == TSIG:
            if number != total or not counts[2] or rclass != ANY or ttl or position != len(message):
                raise ValueError("a TSIG record that is not the last one, or of another class")
            return _found(message, start, position - length)
    if position != len(message):
        raise ValueError("octets after the last record")
    return None


def _found(message: bytes, start: int, position: int) -> Found:
    owner = name_at(message, start)
    algorithm = name_at(message, position)
    position = skip_name(message, position)
    high, low, fudge, size = _TIMES.unpack_from(message, position)
    position += _TIMES.size
    mac = message[position : position + size]
    position += size
    original_id, error, other_size = _TAIL.unpack_from(message, position)
    other = message[position + _TAIL.size :]
    if len(mac) != size or len(other) != other_size:
        raise ValueError("a TSIG record cut short, or too long")
    return Found(start, owner, algorithm, high << 32 | low, fudge, mac, original_id, error, other)


class Seal:
    """Signs the answer to one signed question; the messages of one answer chain (RFC 8945 section 5.3.1)."""

    def __init__(self, key: TsigKey, request_mac: bytes, now: Now) -> None:
        self.key = key
        self._request_mac = request_mac
        self._now = now
        self._context: Any = None

    def sign(self, message: bytes, error: int = 0, time: int | None = None, other: bytes = b"") -> bytes:
        """`message` with its signature. Each call signs the next message of the same answer."""
        at = int(self._now()) if time is None else time
        unsigned = _unsigned(self.key, message, at, error, other)
        rdata, self._context = _sign(message, self.key.key, unsigned, at, self._request_mac, self._context, multi=True)
        return _appended(message, self.key.owner, rdata)


@dataclass(frozen=True, slots=True)
class Checked:
    """A question after the look at its signature.

    message: without the signature. seal: signs the answer; None where the question was unsigned. failure: the
    answer to a question whose signature does not hold, and `error`, its TSIG error (0: the record is malformed).
    """

    message: bytes
    seal: Seal | None = None
    failure: bytes | None = None
    error: int = 0


def check(keys: Mapping[bytes, TsigKey], query: bytes, now: Now) -> Checked:
    """Look at the signature of `query` in the order of RFC 8945 section 5.2: key, MAC, time. Never raises.

    query: at least a header. keys: by owner name in wire form.
    """
    try:
        found = find(query)
    except (ValueError, IndexError, struct.error):
        return Checked(query, failure=_bare(query, FORMERR))
    if found is None:
        return Checked(query)
    message = _stripped(query, found)
    key = keys.get(found.owner)
    if key is None or name_to_wire(key.algorithm) != found.algorithm:
        return _refused(query, found, BADKEY)
    if error := _mac_error(query, key, found):
        return Checked(message, failure=_bare(query, FORMERR)) if error == FORMERR else _refused(query, found, error)
    seal = Seal(key, found.mac, now)
    at = int(now())
    if abs(at - found.time) > found.fudge:
        late = seal.sign(_bare(message, NOTAUTH), BADTIME, found.time, at.to_bytes(6, "big"))
        return Checked(message, failure=late, error=BADTIME)
    return Checked(message, seal)


def sign_question(message: bytes, key: TsigKey, now: Now) -> tuple[bytes, bytes]:
    """`message` signed as a question, and the MAC, which its answer's signature covers."""
    at = int(now())
    rdata, _ = _sign(message, key.key, _unsigned(key, message, at, 0, b""), at)
    return _appended(message, key.owner, rdata), rdata.mac


def open_answer(message: bytes, key: TsigKey, request_mac: bytes, now: Now) -> bytes:
    """The answer without its signature, which must be there and hold. Raises SignatureError that names the fault."""
    try:
        found = find(message)
        if found is None:
            raise SignatureError(f"the answer is not signed by the key {key.name}")
        if found.error:
            raise SignatureError(f"it refuses the key {key.name}: {NAMES.get(found.error, found.error)}")
    except (ValueError, IndexError, struct.error):
        raise SignatureError("the answer is no DNS message, or ends before its end") from None
    if not _holds(message, key, found, int(now()), request_mac):
        raise SignatureError(f"the answer's signature by the key {key.name} does not hold, or is not of this time")
    return _stripped(message, found)


def by_owner(keys: Iterable[TsigKey]) -> dict[bytes, TsigKey]:
    """Keys as `check` looks them up."""
    return {key.owner: key for key in keys}


def _name(wire: bytes) -> dns.name.Name:
    name, _ = dns.name.from_wire(wire, 0)
    return name


def _unsigned(key: TsigKey, message: bytes, at: int, error: int, other: bytes) -> Any:
    ident = int.from_bytes(message[:2], "big")
    return _rdata(ANY, TSIG, key.key.algorithm, at, FUDGE_S, b"", ident, error, other)


def _appended(message: bytes, owner: bytes, rdata: Any) -> bytes:
    additionals = int.from_bytes(message[10:12], "big") + 1
    body = rdata.to_wire() or b""
    record = owner + _RECORD.pack(TSIG, ANY, 0, len(body)) + body
    return message[:10] + additionals.to_bytes(2, "big") + message[12:] + record


def _stripped(message: bytes, found: Found) -> bytes:
    """The message before it was signed: without the record, under its first id (RFC 8945 section 5.2)."""
    additionals = int.from_bytes(message[10:12], "big") - 1
    return message[:10] + additionals.to_bytes(2, "big") + message[12 : found.start]


def _bare(query: bytes, rcode: int) -> bytes:
    ident, flags, *_ = _HEADER.unpack_from(query)
    return _HEADER.pack(ident, QR | flags & OPCODE_MASK | rcode, 0, 0, 0, 0)


def _refused(query: bytes, found: Found, error: int) -> Checked:
    """NOTAUTH with an unsigned TSIG record that says why (RFC 8945 section 5.3.2)."""
    failure = _appended(_bare(query, NOTAUTH), found.owner, found.rdata(mac=b"", error=error, other=b""))
    return Checked(_stripped(query, found), failure=failure, error=error)


def _mac_error(query: bytes, key: TsigKey, found: Found) -> int:
    """What is wrong with the MAC, 0 where nothing is; FORMERR for a length that none has (section 5.2.2.1)."""
    full: int = dns.tsig.mac_sizes[key.key.algorithm]
    if not max(10, full // 2) <= len(found.mac) <= full:
        return FORMERR
    if len(found.mac) < full:
        return BADTRUNC
    # The time is looked at later, so dnspython is told the one that the question says.
    return 0 if _holds(query, key, found, found.time, b"") else BADSIG


def _holds(message: bytes, key: TsigKey, found: Found, at: int, request_mac: bytes) -> bool:
    """Whether the signature is the key's, and of the time `at`."""
    try:
        _validate(message, key.key, _name(found.owner), found.rdata(error=0), at, request_mac, found.start)
    except (dns.exception.DNSException, ValueError):
        return False
    return True
