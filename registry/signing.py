"""DS records of the registry's own domains: what ties a domain's signed zone to the zone above it (RFC 4034 section 5).

The registry does not sign; the server at its edge does, and its keys' DS records come here in a file, one a line, as
`keymgr ZONE ds` writes them. The file is read again when it has changed, so that a roll-over needs no restart.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import dns.exception
import dns.rdata

from registry.errors import ConfigError
from registry.rrset import rrset
from registry.wire import DS, name_to_wire
from registry.zone import Zone, last_label

DsRecords = Mapping[bytes, tuple[bytes, ...]]  # RDATA by the signed zone's apex in wire form

_log = logging.getLogger(__name__)


def with_ds(zone: Zone, records: DsRecords) -> Zone:
    """The zone with the DS records of those of its cuts that have some; costs what they are."""
    apex = name_to_wire(zone.apex)
    branches = dict(zone.branches)
    for labels in zone.cuts:
        found = records.get(labels + apex)
        if found:
            last = last_label(labels)
            servers = zone.cuts[labels]
            ttl = next(ttl for ttl, _ in servers.rdatas())
            kept = tuple(each for each in branches[last][labels] if each.rtype != DS)
            branches[last] = {**branches[last], labels: (*kept, rrset(DS, ttl, found))}
    return replace(zone, branches=branches) if records and zone.cuts else zone


def parse_ds(text: str, place: str) -> dict[bytes, tuple[bytes, ...]]:
    """RDATA by name of lines `name DS key-tag algorithm digest-type digest`; `;`: a remark. Raises ConfigError."""
    found: dict[bytes, list[bytes]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition(";")[0].split()
        if not words:
            continue
        try:
            at = [word.upper() for word in words].index("DS")
            rdata = dns.rdata.from_text("IN", "DS", " ".join(words[at + 1 :])).to_wire() or b""
            found.setdefault(name_to_wire(words[0]), []).append(rdata)
        except (ValueError, dns.exception.DNSException):
            raise ConfigError(
                f"{place}:{number}: {line.strip()!r:.120} is no DS record: name DS key-tag algorithm digest-type digest"
            ) from None
    return {name: tuple(sorted(set(rdatas))) for name, rdatas in found.items()}


class DsFile:
    """The file, read when it has changed. What cannot be read changes nothing and is told in the log."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError where the file is there and cannot be used; it may come later."""
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._records: DsRecords = {}
        self._read()

    def records(self) -> DsRecords:
        """What the file says now."""
        try:
            self._read()
        except ConfigError as error:
            _log.warning("%s; what it said before holds", error.detail)
        return self._records

    def _read(self) -> None:
        try:
            found = self._path.stat()
            stamp = found.st_mtime_ns, found.st_size
            if stamp == self._stamp:
                return
            text = self._path.read_text("ascii")
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self._path}: the DS records cannot be read ({error})") from None
        self._stamp = stamp
        self._records = parse_ds(text, str(self._path))
