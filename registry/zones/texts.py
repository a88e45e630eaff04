"""What the TXT records say: at a domain's apex about the domain, at a network's name about the network.

Each is one TXT record of `key=value` strings (the form of RFC 6763 section 6). Unknown keys are ignored, so
that the format can grow; a missing or broken one is an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from registry.errors import ConfigError, LookupFailed

VERSION = "kindred1"
MAX_STRING = 255  # octets, RFC 1035 section 3.3
MAX_DIMENSION = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class ApexText:
    """A domain: which generation of its tree is current, and what its fingerprints mean.

    generation: 0 where nothing has been published yet. space, schema: SHA-256 digests (32 octets).
    actions: in the order that counts in cell records refer to. parent: the apex of the registry in whose tree this
    one runs a part of the domain, where there is one. serial: the zone's as the registry published it, which a server
    that signs replaces by its own in the SOA; None where an older registry does not say it. keep_s: how old a
    version of the zone may be that certainty rests on, as what it says is kept so long in its place; None where
    nothing ever changes in place.
    """

    generation: int
    space: bytes
    schema: bytes
    dimension: int
    actions: tuple[str, ...]
    schema_url: str | None = None
    parent: str | None = None
    keep_s: int | None = None
    serial: int | None = None

    def strings(self) -> tuple[bytes, ...]:
        """The strings of the TXT record. Raises ConfigError where one does not fit 255 octets."""
        keep = [] if self.keep_s is None else [f"keep={self.keep_s}"]
        url = [] if self.schema_url is None else [f"schema-url={self.schema_url}"]
        parent = [] if self.parent is None else [f"parent={self.parent}"]
        serial = [] if self.serial is None else [serial_string(self.serial).decode()]
        return _strings(
            [
                f"v={VERSION}",
                f"gen={self.generation}",
                f"space={self.space.hex()}",
                f"schema={self.schema.hex()}",
                f"d={self.dimension}",
                *keep,
                *url,
                *parent,
                *serial,
                *(f"action={action}" for action in self.actions),
            ]
        )

    @classmethod
    def from_strings(cls, strings: Sequence[bytes]) -> ApexText:
        """Raises LookupFailed for a missing, repeated or broken string."""
        fields = _Fields(strings, "the domain's TXT", repeated="action")
        text = cls(
            generation=fields.integer("gen"),
            space=fields.digest("space"),
            schema=fields.digest("schema"),
            dimension=fields.integer("d"),
            actions=tuple(fields.repeated),
            schema_url=fields.optional("schema-url"),
            parent=fields.optional("parent"),
            keep_s=None if fields.optional("keep") is None else fields.integer("keep"),
            serial=None if fields.optional("serial") is None else fields.integer("serial"),
        )
        if not 1 <= text.dimension <= MAX_DIMENSION:
            raise LookupFailed(f"the domain's TXT: d={text.dimension}, 1 to {MAX_DIMENSION} are possible")
        if len(set(text.actions)) != len(text.actions) or "" in text.actions:
            raise LookupFailed("the domain's TXT: an action stands twice or is empty")
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkText:
    """A network: its coverage's serial and lease, its size, its key.

    issued: seconds since the epoch, when the coverage or its newest renewal was signed. lease_s: seconds.
    packets, uncovered: held, and held outside every region. key: `ed25519:` and base64. lapsed: the lease is over.
    home: of a share, the network whose packets these are; None: it is its own.
    """

    serial: int
    issued: float
    lease_s: float
    packets: int
    uncovered: int
    key: str
    engine: str
    lapsed: bool
    home: str | None = None

    def strings(self) -> tuple[bytes, ...]:
        """The strings of the TXT record. Raises ConfigError where one does not fit 255 octets."""
        return _strings(
            [
                f"v={VERSION}",
                f"serial={self.serial}",
                f"issued={self.issued!r}",
                f"lease={self.lease_s!r}",
                f"packets={self.packets}",
                f"uncovered={self.uncovered}",
                f"key={self.key}",
                f"engine={self.engine}",
                f"lapsed={int(self.lapsed)}",
                *([] if self.home is None else [f"home={self.home}"]),
            ]
        )

    @classmethod
    def from_strings(cls, strings: Sequence[bytes]) -> NetworkText:
        """Raises LookupFailed for a missing, repeated or broken string."""
        fields = _Fields(strings, "the network's TXT")
        return cls(
            serial=fields.integer("serial"),
            issued=fields.number("issued"),
            lease_s=fields.number("lease"),
            packets=fields.integer("packets"),
            uncovered=fields.integer("uncovered"),
            key=fields.required("key"),
            engine=fields.required("engine"),
            lapsed=fields.flag("lapsed"),
            home=fields.optional("home"),
        )


def serial_string(serial: int) -> bytes:
    """How an apex says its serial."""
    return f"serial={serial}".encode()


def _strings(texts: Iterable[str]) -> tuple[bytes, ...]:
    encoded = tuple(text.encode("utf-8") for text in texts)
    for each in encoded:
        if len(each) > MAX_STRING:
            start = each[:40].decode("utf-8", "replace")
            raise ConfigError(f"TXT {start!r}... is {len(each)} octets long; at most {MAX_STRING} fit")
    return encoded


class _Fields:
    """The `key=value` strings of one TXT record, read strictly."""

    def __init__(self, strings: Sequence[bytes], what: str, repeated: str | None = None) -> None:
        self._what = what
        self._values: dict[str, str] = {}
        self.repeated: list[str] = []
        for raw in strings:
            try:
                key, equals, value = raw.decode("utf-8").partition("=")
            except UnicodeDecodeError:
                raise LookupFailed(f"{what}: a string is not UTF-8") from None
            if equals and key == repeated:
                self.repeated.append(value)
            elif equals:
                if key in self._values:
                    raise LookupFailed(f"{what}: {key!r:.40} stands twice")
                self._values[key] = value
        if self._values.get("v") != VERSION:
            raise LookupFailed(f"{what}: v={self._values.get('v', '')!r:.40}, this program reads v={VERSION}")

    def optional(self, key: str) -> str | None:
        return self._values.get(key)

    def required(self, key: str) -> str:
        if key not in self._values:
            raise LookupFailed(f"{self._what}: {key}= is missing")
        return self._values[key]

    def integer(self, key: str) -> int:
        text = self.required(key)
        if not (text.isascii() and text.isdecimal() and len(text) <= 16):
            raise self._wrong(key, "a whole number")
        return int(text)

    def number(self, key: str) -> float:
        try:
            value = float(self.required(key))
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise self._wrong(key, "a number of seconds")
        return value

    def flag(self, key: str) -> bool:
        if self.required(key) not in ("0", "1"):
            raise self._wrong(key, "0 or 1")
        return self.required(key) == "1"

    def digest(self, key: str) -> bytes:
        text = self.required(key)
        try:
            value = bytes.fromhex(text)
        except ValueError:
            value = b""
        if len(value) != 32 or len(text) != 64:
            raise self._wrong(key, "64 hexadecimal digits")
        return value

    def _wrong(self, key: str, right: str) -> LookupFailed:
        return LookupFailed(f"{self._what}: {key}={self._values[key]!r:.80}, {right} would be right")
