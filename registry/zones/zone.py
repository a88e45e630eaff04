"""Zones: what is published, rendered once into the octets that answers carry.

One zone per domain and one for the origin, which delegates the domains (NS cuts stand only at domains). A zone
is immutable; a new publication builds a new one and takes over the generations that did not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from registry.dns.rrset import RRset, address_rrsets, fixed, rrset, soa_rdata, txt_rdata, uri_rdata
from registry.dns.wire import NS, SOA, TXT, URI, name_to_wire
from registry.errors import ConfigError, RegionError
from registry.geometry.cell import Address, CellRecord, Naming
from registry.zones.cut import Cut
from registry.zones.names import Branch, Names, Node
from registry.zones.rendering import Rendering
from registry.zones.texts import ApexText, NetworkText, serial_string

MAX_SERIAL = 2**32 - 1

Cells = Mapping[Address, tuple[CellRecord, ...]]

NET = b"\x03net"  # the branch of the networks


@dataclass(frozen=True, slots=True, kw_only=True)
class Ttls:
    """Times to live and the SOA's timers, in seconds (PROTOCOL, "DNS")."""

    apex: int = 10
    cell: int = 60
    endpoint: int = 30
    soa_minimum: int = 10
    soa_refresh: int = 30
    soa_retry: int = 10
    soa_expire: int = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkEntry(NetworkText):
    """What is published of a network. endpoints: URIs, the preferred one first."""

    endpoints: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Publication:
    """All that is published of a domain. space, schema: digests of 32 octets.

    generations: complete trees by number, each with a root cell; `current` is among them, or 0 where there are
    none. A generation's mapping is never changed after it has been published. networks: by name. keep_s: see ApexText.
    parent: the apex in whose tree this is a part, if it is. top: the registry's topmost zone, which names its name
    server; None: the origin.
    """

    naming: Naming
    dimension: int
    space: bytes
    schema: bytes
    actions: tuple[str, ...]
    generations: Mapping[int, Cells]
    current: int
    networks: Mapping[str, NetworkEntry]
    schema_url: str | None = None
    parent: str | None = None
    keep_s: int | None = None
    top: str | None = None

    @property
    def text(self) -> ApexText:
        """The TXT of the domain's apex."""
        return ApexText(
            generation=self.current,
            space=self.space,
            schema=self.schema,
            dimension=self.dimension,
            actions=self.actions,
            schema_url=self.schema_url,
            parent=self.parent,
            keep_s=self.keep_s,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Zone:
    """The names of one zone.

    branches: by the last label before the apex (b"" for the apex itself), so that a branch that did not change
    is shared with the zone before. cuts: the NS RRsets of delegated names by their labels. soa: RDATA.
    """

    apex: str
    serial: int
    soa: bytes
    ttls: Ttls
    branches: Mapping[bytes, Branch]
    cuts: Mapping[bytes, RRset]
    sources: Mapping[bytes, tuple[object, ...]] = field(default_factory=dict)
    negative: bytes = field(init=False)  # the SOA record of negative answers, without its owner
    _lengths: tuple[int, ...] = field(init=False)  # of the keys of `branches`, in octets

    def __post_init__(self) -> None:
        # RFC 2308 section 3: the SOA of a negative answer lives for the lesser of its TTL and its minimum.
        object.__setattr__(self, "negative", fixed(SOA, min(self.ttls.apex, self.ttls.soa_minimum), self.soa))
        object.__setattr__(self, "_lengths", tuple({len(branch) for branch in self.branches}))

    def find(self, labels: bytes, branch: bytes) -> Node | None:
        """The RRsets at the name; () at an empty non-terminal, None where there is no such name."""
        names = self.branches.get(branch)
        return None if names is None else names.get(labels)

    def published(self, labels: bytes) -> Node | None:
        """As `find`, for those who have not looked where labels start; None too for what is no sequence of labels."""
        for length in self._lengths:
            names = self.branches.get(labels[-length:] if length else b"")
            if names is not None and (node := names.get(labels)) is not None:
                return node
        return None

    def with_serial(self, serial: int) -> Zone:
        """The same zone under another serial; costs nothing that grows with the zone."""
        soa = self.soa[:-20] + (serial & MAX_SERIAL).to_bytes(4, "big") + self.soa[-16:]
        told = (_with_serial(each, self.serial, serial) for each in self.branches[b""][b""][1:])
        node = (rrset(SOA, self.ttls.apex, [soa]), *told)
        return replace(self, serial=serial, soa=soa, branches={**self.branches, b"": {b"": node}})

    def with_branches(self, serial: int, branches: Mapping[bytes, Branch | None]) -> Zone:
        """This zone under another serial, with these branches in the place of those it had; None for one that goes."""
        kept = {label: names for label, names in self.branches.items() if label not in branches}
        come = {label: names for label, names in branches.items() if names is not None}
        return replace(self, branches={**kept, **come}).with_serial(serial)

    def rrsets(self) -> Iterator[tuple[bytes, RRset]]:
        """Every RRset with its owner in wire form, the SOA first."""
        apex = name_to_wire(self.apex)
        for names in self.branches.values():
            for labels, node in names.items():
                for each in node:
                    yield labels + apex, each


class ZoneSet:
    """The zones of one server; a question is for the zone with the longest matching apex.

    pending: apexes of zones that belong here, below others, and are not there yet.
    """

    def __init__(self, zones: Iterable[Zone] = (), pending: Iterable[str] = ()) -> None:
        self.pending = frozenset(map(name_to_wire, pending))
        self.by_apex: dict[bytes, Zone] = {name_to_wire(zone.apex): zone for zone in zones}
        self.lengths = sorted({len(apex) for apex in self.by_apex}, reverse=True)  # of the apexes, in octets


def origin_zone(
    origin: str,
    domains: Sequence[str],
    serial: int,
    ttls: Ttls,
    addresses: Sequence[str] = ("127.0.0.1",),
    delegations: Sequence[Cut] = (),
) -> Zone:
    """The zone at `origin`: its name server `ns.<origin>` with its addresses, and NS cuts to the domains.

    delegations: to other registries, of names below `origin` that are below none of the domains.
    """
    server = b"\x02ns"
    soa, node = _apex(origin, serial, ttls)
    cuts = _cuts("", origin, origin, domains, ttls.endpoint)
    branches = {b"": {b"": node}, server: {server: address_rrsets(ttls.endpoint, addresses)}}
    nodes: dict[bytes, Node] = {labels: (servers,) for labels, servers in cuts.items()}
    apex = name_to_wire(origin)
    for cut in delegations:
        labels = name_to_wire(cut.name).removesuffix(apex)
        at_cut = cut.rrsets(ttls.endpoint)
        cuts, nodes[labels] = {**cuts, labels: at_cut[0]}, at_cut
        for host, glue in cut.glue(apex, ttls.endpoint).items():
            nodes.setdefault(host, glue)
    return Zone(origin, serial, soa, ttls, _with_cuts(branches, nodes, origin), cuts)


def domain_zone(
    publication: Publication,
    serial: int,
    ttls: Ttls,
    domains: Sequence[str] = (),
    previous: Zone | None = None,
) -> Zone:
    """The zone of a domain. `domains`: all of the origin, for the cuts to those below this one.

    `previous`: the zone before, whose generations are taken over where their mapping is the same object.
    Raises RegionError for a cell that is too large, ConfigError for names or texts that do not fit.
    """
    naming = publication.naming
    if publication.current not in publication.generations and publication.current != 0:
        raise RegionError(f"{naming.domain}: generation {publication.current} is current but not among the published")
    top = publication.top or naming.origin
    soa, node = _apex(top, serial, ttls)
    text = rrset(TXT, ttls.apex, [txt_rdata(replace(publication.text, serial=serial).strings())])
    branches: dict[bytes, Branch] = {b"": {b"": (*node, text)}}
    sources: dict[bytes, tuple[object, ...]] = {}
    for generation, cells in publication.generations.items():
        label = name_to_wire(f"g{generation}")[:-1]
        source = (cells, publication.actions, ttls.cell)
        sources[label] = source
        known = previous.sources.get(label) if previous is not None else None
        if previous is not None and known is not None and known[0] is cells and known[1:] == source[1:]:
            branches[label] = previous.branches[label]
        else:
            branches[label] = _cells(publication, generation, cells, ttls.cell)
    if publication.networks:
        branches[NET] = Names({NET: (), **dict(network_nodes(naming, publication.networks, ttls.endpoint))})
    cuts = _cuts(naming.domain, naming.origin, top, domains, ttls.endpoint)
    for labels in cuts:
        last = last_label(labels)
        if last == NET or (last[1:2] == b"g" and last[2:].isdigit()):
            raise ConfigError(f"a domain below {naming.domain} is named as its networks or cells are; rename it")
    nodes = {labels: (servers,) for labels, servers in cuts.items()}
    return Zone(naming.apex, serial, soa, ttls, _with_cuts(branches, nodes, naming.apex), cuts, sources)


def _apex(top: str, serial: int, ttls: Ttls) -> tuple[bytes, Node]:
    """The SOA's RDATA, and the RRsets SOA and NS. top: the registry's topmost zone."""
    timers = (serial & MAX_SERIAL, ttls.soa_refresh, ttls.soa_retry, ttls.soa_expire, ttls.soa_minimum)
    soa = soa_rdata(f"ns.{top}", f"hostmaster.{top}", timers)
    servers = rrset(NS, ttls.endpoint, [name_to_wire(f"ns.{top}")])
    return soa, (rrset(SOA, ttls.apex, [soa]), servers)


def _with_serial(each: RRset, before: int, serial: int) -> RRset:
    """The apex's TXT says its serial; other RRsets are as they were."""
    if each.rtype != TXT:
        return each
    old, new = txt_rdata([serial_string(before)]), txt_rdata([serial_string(serial)])
    [(ttl, rdata)] = each.rdatas()
    return rrset(TXT, ttl, [rdata.replace(old, new, 1)])


def _with_cuts(branches: Mapping[bytes, Branch], nodes: Mapping[bytes, Node], apex: str) -> Mapping[bytes, Branch]:
    """The branches, and those of the cuts: what stands at them, and the addresses of their servers."""
    delegated: dict[bytes, dict[bytes, Node]] = {}
    for labels, node in nodes.items():
        delegated.setdefault(last_label(labels), {})[labels] = node
    for last, names in delegated.items():
        if last in branches:
            raise ConfigError(f"a domain below {apex} takes the name {last[1:].decode()!r} of its own; rename it")
        _fill_gaps(names)
    return {**branches, **delegated}


def _cells(publication: Publication, generation: int, cells: Cells, ttl: int) -> Branch:
    rendering = Rendering(publication.naming, generation, publication.actions, ttl)
    names = dict(rendering.cells(cells.items()))
    _fill_gaps(names)
    return Names(names)


def network_nodes(naming: Naming, networks: Mapping[str, NetworkEntry], ttl: int) -> Iterator[tuple[bytes, Node]]:
    """Labels and node of each network. ttl: seconds. Raises ConfigError for a name or text that does not fit."""
    apex = name_to_wire(naming.apex)
    for name, entry in networks.items():
        if "." in name:
            raise ConfigError(f"the network name {name!r:.80} has a dot in it; one label is wanted")
        labels = name_to_wire(naming.network(name)).removesuffix(apex)
        text = rrset(TXT, ttl, [txt_rdata(entry.strings())])
        uris = [uri_rdata(priority, 1, uri) for priority, uri in enumerate(entry.endpoints, 1)]
        yield labels, (text, rrset(URI, ttl, uris)) if uris else (text,)


def _cuts(parent: str, origin: str, top: str, domains: Sequence[str], ttl: int) -> Mapping[bytes, RRset]:
    """The NS RRsets, by labels, of those domains whose nearest enclosing one is `parent` ("" for the origin)."""
    suffix = f".{parent}" if parent else ""
    below = [domain for domain in domains if domain.endswith(suffix) and domain != parent]
    nearest = [domain for domain in below if not any(domain.endswith(f".{other}") for other in below)]
    parent_wire = name_to_wire(f"{parent}.{origin}" if parent else origin)
    servers = rrset(NS, ttl, [name_to_wire(f"ns.{top}")])
    return {name_to_wire(f"{domain}.{origin}").removesuffix(parent_wire): servers for domain in nearest}


def last_label(labels: bytes) -> bytes:
    """The label next to the apex, in wire form: what `Zone.branches` is keyed by. b"" for the apex itself."""
    while labels and len(labels) > 1 + labels[0]:
        labels = labels[1 + labels[0] :]
    return labels


def _fill_gaps(names: dict[bytes, Node]) -> None:
    """Add the empty non-terminals above `names` (RFC 8020): they exist, without records."""
    for labels in list(names):
        above = labels[1 + labels[0] :]
        while above and above not in names:
            names[above] = ()
            above = above[1 + above[0] :]
