"""What zones say of the servers at the edge: the public name servers, and the keys that those sign with.

The registry does not sign and need not be public. Its secondaries' names and addresses come from the configuration;
their keys' DS records (RFC 4034 section 5) come in a file, one a line, as `keymgr ZONE ds` writes them. The file is
read again when it has changed, so that a roll-over needs no restart.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import dns.exception
import dns.rdata

from registry.dns.rrset import RRset, address_rrsets, rrset
from registry.dns.wire import DS, NS, SOA, name_to_wire
from registry.errors import ConfigError
from registry.zones.names import Branch, Node
from registry.zones.zone import Zone, last_label

DsRecords = Mapping[bytes, tuple[bytes, ...]]  # RDATA by the signed zone's apex in wire form

_OWN = b"\x02ns"  # the name server's label where the registry itself is public

_log = logging.getLogger(__name__)


class Edge:
    """Dresses zones for publication; costs what is dressed, which is the apex and the cuts.

    top: the registry's topmost zone. servers: labels below it of the public name servers, each with its addresses;
    none: the registry itself is public. ds: the DS records of its domains as they are now.
    """

    def __init__(self, top: str, servers: Mapping[str, Sequence[str]], ds: Callable[[], DsRecords] = dict) -> None:
        self._top = name_to_wire(top)
        self._own = _OWN + self._top
        self._addresses = {name_to_wire(f"{label}."): tuple(each) for label, each in servers.items()}
        self._names = [labels[:-1] + self._top for labels in self._addresses]
        self._ds = ds

    def dress(self, zone: Zone) -> Zone:
        """The zone as the edge is to serve it."""
        records = self._ds()
        branches = dict(zone.branches)
        apex = name_to_wire(zone.apex)
        for labels in zone.cuts:
            last = last_label(labels)
            node = self._served(branches[last][labels])
            if found := records.get(labels + apex):
                ttl = next(ttl for ttl, _ in zone.cuts[labels].rdatas())
                node = (*(each for each in node if each.rtype != DS), rrset(DS, ttl, found))
            branches[last] = {**branches[last], labels: node}
        if not self._names:
            return replace(zone, branches=branches)
        cuts = {labels: next(each for each in branches[last_label(labels)][labels] if each.rtype == NS)
                for labels in zone.cuts}  # fmt: skip
        soa = zone.soa if not zone.soa.startswith(self._own) else self._names[0] + zone.soa.removeprefix(self._own)
        top = tuple(
            rrset(SOA, zone.ttls.apex, [soa]) if each.rtype == SOA else each for each in zone.branches[b""][b""]
        )
        branches[b""] = {b"": self._served(top)}
        if apex == self._top:
            branches.pop(_OWN, None)
            branches |= self._hosts(zone.ttls.endpoint)
        return replace(zone, soa=soa, branches=branches, cuts=cuts)

    def _served(self, node: Node) -> Node:
        """With the edge's servers in the registry's place."""
        return tuple(self._servers(each) if self._names and each.rtype == NS else each for each in node)

    def _servers(self, each: RRset) -> RRset:
        [(ttl, host), *more] = each.rdatas()
        return rrset(NS, ttl, self._names) if host == self._own and not more else each

    def _hosts(self, ttl: int) -> dict[bytes, Branch]:
        return {
            labels[:-1]: {labels[:-1]: address_rrsets(ttl, addresses)} for labels, addresses in self._addresses.items()
        }


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
