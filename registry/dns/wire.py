"""DNS on the wire: codes, names and header flags (RFC 1035 sections 3.1 and 4.1, RFC 6891, RFC 9460).

Names are kept as lower-case wire bytes (length, label, ..., 0). A label's length is at most 63, below every
letter, so `bytes.lower()` folds the case of a whole wire name at once.
"""

from __future__ import annotations

from functools import lru_cache

from registry.errors import ConfigError, LookupFailed

A, NS, SOA, PTR, HINFO, TXT, AAAA, OPT, DS, RRSIG, DNSKEY, SVCB, URI = 1, 2, 6, 12, 13, 16, 28, 41, 43, 46, 48, 64, 256
TSIG, IXFR, AXFR, ANY = 250, 251, 252, 255
IN = 1

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
NOTAUTH = 9  # RFC 2136; also of a signature that does not hold (RFC 8945)
BADVERS = 16
RCODES = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}

QR, AA, TC, RD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0010
OPCODE_MASK = 0x7800
NOTIFY = 0x2000  # opcode 4, in its place among the flags (RFC 1996)

HEADER = 12  # octets
QUESTION_POINTER = b"\xc0\x0c"  # the name of the first question, by compression
MAX_NAME = 255
MAX_LABEL = 63
MAX_UDP = 1232  # octets; RFC 9715 section 3.1: no fragments on any sane path
MIN_UDP = 512  # octets; RFC 1035 section 4.2.1, where the asker says nothing
MAX_TTL = 2**31 - 1  # RFC 2181 section 8


@lru_cache(maxsize=65536)
def name_to_wire(text: str) -> bytes:
    """The lower-case wire form of a name in text; the final dot may be missing.

    Raises ConfigError: the names of Kindred come from domains, networks and origins that an operator chose.
    """
    labels = text.removesuffix(".").lower().split(".") if text != "." else []
    try:
        parts = [label.encode("ascii") for label in labels]
    except UnicodeEncodeError:
        raise ConfigError(f"the DNS name {text!r:.80} is not ASCII; use letters, digits and hyphens") from None
    for part in parts:
        if not 1 <= len(part) <= MAX_LABEL:
            raise ConfigError(f"the DNS name {text!r:.80} has a label of {len(part)} octets; 1 to {MAX_LABEL} fit")
    wire = b"".join(bytes([len(part)]) + part for part in parts) + b"\0"
    if len(wire) > MAX_NAME:
        raise ConfigError(f"the DNS name {text!r:.80}... is {len(wire)} octets long; at most {MAX_NAME} fit")
    return wire


def labels_to_text(wire: bytes) -> str:
    """The text, lower-case and without a final dot, of uncompressed wire labels without the root.

    Raises LookupFailed where the labels do not fill `wire` exactly, or hold more than letters, digits, -, _.
    """
    labels = []
    position = 0
    while position < len(wire):
        length = wire[position]
        label = wire[position + 1 : position + 1 + length]
        if not 1 <= length <= MAX_LABEL or len(label) != length:
            raise LookupFailed("a DNS name in a record is cut or compressed")
        if not label.replace(b"-", b"").replace(b"_", b"").isalnum():
            raise LookupFailed("a DNS name in a record holds other octets than letters, digits, - and _")
        labels.append(label.decode("ascii").lower())
        position += 1 + length
    return ".".join(labels)


def skip_name(message: bytes, position: int) -> int:
    """The position after the (possibly compressed) name at `position`.

    Raises IndexError or ValueError where the message ends within it or it is of no known form.
    """
    while True:
        length = message[position]
        if length == 0:
            return position + 1
        if length >= 0xC0:
            if position + 2 > len(message):
                raise IndexError("the message ends within a compression pointer")
            return position + 2
        if length > MAX_LABEL:
            raise ValueError("a label of an unknown kind")
        position += 1 + length


def name_at(message: bytes, position: int) -> bytes:
    """The lower-case uncompressed wire form of the name at `position`, pointers followed backwards only.

    Raises IndexError or ValueError as `skip_name`, also for pointers that do not point back and long names.
    """
    labels = bytearray()
    limit = position
    while True:
        length = message[position]
        if length >= 0xC0:
            position = (length & 0x3F) << 8 | message[position + 1]
            if position >= limit:
                raise ValueError("a compression pointer that does not point back")
            limit = position
            continue
        if length > MAX_LABEL:
            raise ValueError("a label of an unknown kind")
        label = message[position : position + 1 + length]
        labels += label
        if len(labels) > MAX_NAME or len(label) != 1 + length:
            raise ValueError("a name that is cut or too long")
        if length == 0:
            return bytes(labels).lower()
        position += 1 + length
