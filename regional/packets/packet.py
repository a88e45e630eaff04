"""The packet: one node's current episode. Its bytes: regional/packets/packetcbor.py."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import numpy as np

from regional.packets import packetcbor, packetjson
from regional.packets.packetcbor import FLOAT32, MAX_BYTES, NAMES, VERSION, Fingerprint, Outcome
from regional.packets.packetjson import refuse
from registry.errors import PacketError

MAX_DIMENSION: Final = 128
MAX_NODE: Final = 32
MAX_TEXT: Final = 64  # bytes of an action or of an outcome's name
MAX_NORM: Final = 1e15  # its square is far below float32's end, so that no scan overflows

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(_LABEL)
_DOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_OPTIONAL = frozenset({"weight", "signer", "sig", "tombstone"})
NO_FINGERPRINT: Final[Fingerprint] = np.zeros(0, dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Packet:
    """One node's current episode.

    domain, network: DNS names (one label for the network). space8: first 8 bytes of the space digest.
    node: 1 to 32 opaque bytes. seq: u64, only grows per node. t0, time: seconds since the epoch, when the
    action was decided and when the newest outcome was known. fingerprint: (d,) float32, 1 <= d <= 128.
    action: None where none was taken or the domain has none. outcomes: number, (duration, event) or None
    (unknown yet) by name. weight: >= 0. signer, sig: 32 and 64 bytes of Ed25519, both or neither; carried,
    and not verified in version 1. tombstone: the node was withdrawn; such a packet carries no fingerprint
    (d = 0), no action and no outcomes.
    """

    domain: str
    space8: bytes
    network: str
    node: bytes
    seq: int
    t0: float
    time: float
    fingerprint: Fingerprint
    action: str | None = None
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    weight: float = 1.0
    signer: bytes | None = None
    sig: bytes | None = None
    tombstone: bool = False

    def to_cbor(self) -> bytes:
        """The one encoding. Raises PacketError, naming the member, where the packet breaks the format."""
        _check(self)
        encoded = self._encoded()
        if len(encoded) > MAX_BYTES:
            raise PacketError(f"packet: {len(encoded)} bytes, at most {MAX_BYTES}; keep fewer or shorter outcomes")
        return encoded

    @classmethod
    def from_cbor(cls, data: bytes) -> Packet:
        """Decode strictly, only the one encoding. Raises PacketError: what is wrong, what would be right."""
        packet = cls.read_cbor(data)
        again = packet._encoded()
        if again != data:
            raise PacketError(packetcbor.difference(packetcbor.members(data), data, again))
        return packet

    @classmethod
    def read_cbor(cls, data: bytes) -> Packet:
        """Decode what a network sent back: a packet with all its rules, in whatever encoding. Raises PacketError."""
        if len(data) > MAX_BYTES:
            raise PacketError(f"packet: {len(data)} bytes, at most {MAX_BYTES}")
        members = packetcbor.members(data)
        try:
            fingerprint = np.frombuffer(members[8], dtype=FLOAT32)
            outcomes = {n: tuple(value) if type(value) is list else value for n, value in members[10].items()}
            packet = cls(
                members[1], members[2], members[3], members[4], members[5], members[6], members[7], fingerprint,
                members[9], outcomes, members.get(11, 1.0), members.get(12), members.get(13), members.get(14, False),
            )  # fmt: skip
        except KeyError as error:
            name = packetcbor.name_of(error.args[0])
            raise PacketError(f"packet: {name} (key {error.args[0]}) is missing", path=name) from None
        except (AttributeError, TypeError, ValueError):
            _require(type(members[8]) is bytes and len(members[8]) % 4 == 0, "fingerprint", "float32 bytes", members[8])
            raise PacketError("packet: outcomes must be a map of names", path="outcomes") from None
        _check(packet)
        return packet

    def _encoded(self) -> bytes:
        return packetcbor.encode(
            self.domain, self.space8, self.network, self.node, self.seq, self.t0, self.time, self.fingerprint,
            self.action, self.outcomes, self.weight, self.signer, self.sig, self.tombstone,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The JSON object with the names of PROTOCOL; seq beyond 2^53 - 1 as text, node as base64url."""
        document: dict[str, Any] = {
            "v": VERSION,
            "domain": self.domain,
            "space": self.space8.hex(),
            "network": self.network,
            "node": node_text(self.node),
            "seq": self.seq if self.seq < 1 << 53 else str(self.seq),
            "t0": self.t0,
            "time": self.time,
            "fingerprint": base64.b64encode(self.fingerprint.astype(FLOAT32, copy=False).tobytes()).decode(),
            "action": self.action,
            "outcomes": {n: list(value) if isinstance(value, tuple) else value for n, value in self.outcomes.items()},
            "weight": self.weight,
        }
        if self.signer is not None and self.sig is not None:
            document["signer"] = base64.b64encode(self.signer).decode()
            document["sig"] = base64.b64encode(self.sig).decode()
        if self.tombstone:
            document["tombstone"] = True
        return document

    @classmethod
    def from_json(cls, value: object, d: int) -> Packet:
        """Read `to_json`'s form of a packet of dimension `d`; the fingerprint may also be a list of numbers.

        Raises PacketError naming the member.
        """
        if not isinstance(value, dict):
            raise PacketError(f"packet: an object is wanted, found {type(value).__name__}")
        for name in value:
            _require(name in NAMES, str(name)[:60], f"left out; a packet has {', '.join(NAMES)}", "unknown")
        for name in NAMES:
            _require(name in value or name in _OPTIONAL, name, "there", "missing")
        _require(value["v"] == VERSION and type(value["v"]) is int, "v", str(VERSION), value["v"])
        seq = value["seq"]
        if isinstance(seq, str) and seq.isascii() and seq.isdecimal() and len(seq) <= 20:
            seq = int(seq)
        tombstone = value.get("tombstone", False)
        packet = cls(
            value["domain"],
            packetjson.decoded(value["space"], "space", "16 hex digits", bytes.fromhex),
            value["network"],
            node_from_text(value["node"]),
            seq,
            packetjson.number(value["t0"], "t0"),
            packetjson.number(value["time"], "time"),
            packetjson.fingerprint(value["fingerprint"], 0 if tombstone is True else d),
            value["action"],
            packetjson.outcomes(value["outcomes"]),
            packetjson.number(value.get("weight", 1.0), "weight"),
            packetjson.base64_bytes(value["signer"], "signer") if "signer" in value else None,
            packetjson.base64_bytes(value["sig"], "sig") if "sig" in value else None,
            tombstone,
        )
        _check(packet)
        return packet


def identity_digest(network: str, node: bytes) -> bytes:
    """32 bytes that order packets at equal distance, everywhere.

    SHA-256 of: the length of the network's name as one byte, the name, the node.
    """
    name = network.encode()
    return hashlib.sha256(bytes((len(name),)) + name + node).digest()


def node_text(node: bytes) -> str:
    """A node as it stands in JSON and in paths: base64url without padding (RFC 4648 section 5)."""
    return base64.urlsafe_b64encode(node).decode().rstrip("=")


def node_from_text(text: object) -> bytes:
    """The inverse of `node_text`. Raises PacketError."""
    right = f"base64url, without padding, of 1 to {MAX_NODE} bytes"
    node = packetjson.decoded(
        text, "node", right, lambda t: base64.b64decode(t + "=" * (-len(t) % 4), b"-_", validate=True)
    )
    _require(1 <= len(node) <= MAX_NODE and node_text(node) == text, "node", right, text)
    return node


def check_fingerprint(fingerprint: Fingerprint) -> None:
    """Raise PacketError unless (d,) float32 with 1 <= d <= 128, finite, and of a norm below 1e15."""
    d = fingerprint.shape[0] if fingerprint.ndim == 1 else 0
    if not 1 <= d <= MAX_DIMENSION or fingerprint.dtype != np.float32:
        _require(False, "fingerprint", f"float32 of 1 to {MAX_DIMENSION} axes", fingerprint.shape)
    # One norm finds NaN, infinity and what would overflow at once.
    if not math.hypot(*fingerprint.tolist()) <= MAX_NORM:
        _require(False, "fingerprint", "finite on every axis, and of a norm below 1e15", "not")


# ---- the checks ----------------------------------------------------------------------------------------------


def _require(good: bool, path: str, right: str, value: object) -> None:
    if not good:
        refuse(path, right, value)


def _finite(value: object) -> bool:
    return type(value) is float and math.isfinite(value)


def _is_bytes(value: object, low: int, high: int) -> bool:
    return type(value) is bytes and low <= len(value) <= high


@lru_cache(maxsize=4096)
def _check_home(domain: object, network: object, space8: object) -> None:
    good = type(domain) is str and len(domain) <= 120 and _DOMAIN.fullmatch(domain) is not None
    _require(good, "domain", "a lower-case DNS name of at most 120 characters", domain)
    good = type(network) is str and _NAME.fullmatch(network) is not None
    _require(good, "network", "one lower-case DNS label", network)
    _require(_is_bytes(space8, 8, 8), "space", "the first 8 bytes of the space digest", space8)


def _check(p: Packet) -> None:
    """Everything that the types do not say; the first wrong member is named."""
    try:
        _check_home(p.domain, p.network, p.space8)
    except TypeError:
        refuse("domain, network or space", "text, text and bytes", "a container")
    _require(_is_bytes(p.node, 1, MAX_NODE), "node", f"1 to {MAX_NODE} bytes", p.node)
    _require(type(p.seq) is int and 0 <= p.seq < 1 << 64, "seq", "an integer from 0 to 2^64-1", p.seq)
    _require(_finite(p.t0), "t0", "a finite float, seconds since the epoch", p.t0)
    _require(_finite(p.time), "time", "a finite float, seconds since the epoch", p.time)
    if p.tombstone is not False:
        _require(p.tombstone is True, "tombstone", "true, or left out", p.tombstone)
        bare = p.fingerprint.size == 0 and p.action is None and not p.outcomes
        _require(bare, "tombstone", "without fingerprint, action and outcomes", True)
    else:
        check_fingerprint(p.fingerprint)
    if p.action is not None:
        _check_text(p.action, "action")
    for name, value in p.outcomes.items():
        _check_text(name, "outcomes")
        if value is not None and not _finite(value):
            pair = type(value) is tuple and len(value) == 2 and _finite(value[0]) and type(value[1]) is bool
            _require(pair, f"outcomes.{name}", "a finite float, [duration, event] or null", value)
    if p.weight != 1.0 or type(p.weight) is not float:
        _require(_finite(p.weight) and p.weight >= 0, "weight", "a finite float, not negative", p.weight)
    if p.signer is not None or p.sig is not None:
        _require(_is_bytes(p.signer, 32, 32), "signer", "32 bytes, and stand beside sig", p.signer)
        _require(_is_bytes(p.sig, 64, 64), "sig", "64 bytes, and stand beside signer", p.sig)


def _check_text(value: object, path: str) -> None:
    try:
        good = type(value) is str and 0 < len(value.encode()) <= MAX_TEXT
    except UnicodeEncodeError:  # a lone surrogate
        good = False
    if not good:
        _require(False, path, f"1 to {MAX_TEXT} bytes of text", value)
