"""Cells: the nodes of a domain's tree, their addresses and their DNS names.

An address is the path of child numbers from the root (), so (3, 0, 7) is child 7 of child 0 of child 3 of
the root. Its DNS name is that path leaf first, as in ip6.arpa (RFC 3596 section 2.5), under the generation
and the domain: `7.0.3.g17.crash.vehicles.kindred.internal.`
"""

from __future__ import annotations

from dataclasses import dataclass

from registry.errors import LookupFailed
from registry.geometry.region import Region

Address = tuple[int, ...]

MAX_DEPTH = 16
MAX_RECORDS = 64  # BIND refuses zones with over 100 records in a set


@dataclass(frozen=True, slots=True)
class CellRecord:
    """One region of a cell: an inner one points to a child cell, or to the apex of another registry that runs this
    part of the domain; a leaf one to the network that holds it.

    Exactly one of `child`, `network` and `apex` is set; `apex` is an absolute name. `lapsed`: the lease of (one of)
    the members behind it is over.
    """

    region: Region
    child: Address | None = None
    network: str | None = None
    apex: str | None = None
    lapsed: bool = False


@dataclass(frozen=True, slots=True)
class Naming:
    """The names of one domain under one origin; both absolute, lower case, with the final dot for `origin`.

    >>> names = Naming("crash.vehicles", "kindred.internal.")
    >>> names.cell(17, (3, 0, 7)), names.network("psu-02")
    ('7.0.3.g17.crash.vehicles.kindred.internal.', 'psu-02.net.crash.vehicles.kindred.internal.')
    """

    domain: str
    origin: str

    @property
    def apex(self) -> str:
        """The domain's own name: SOA, NS, and the TXT that says which generation is current."""
        return f"{self.domain}.{self.origin}"

    def cell(self, generation: int, address: Address) -> str:
        """The name of a cell."""
        return ".".join([*map(str, reversed(address)), f"g{generation}", self.apex])

    def network(self, network: str) -> str:
        """The name of a network: its endpoints (URI) and its key and serial (TXT)."""
        return f"{network}.net.{self.apex}"

    def beyond(self, apex: str) -> Naming:
        """The names of the same domain at another registry, whose apex this is: the domain under another origin.

        Raises LookupFailed where it is no such name, or this registry's own.

        >>> Naming("crash.vehicles", "kindred.internal.").beyond("crash.vehicles.asia.kindred.internal.").origin
        'asia.kindred.internal.'
        """
        lowered = apex.lower()
        origin = lowered.removeprefix(self.domain + ".")
        if origin in (lowered, "", "."):
            raise LookupFailed(f"{apex!r:.120} is not {self.domain} under another origin", name=apex[:255])
        if origin == self.origin:
            raise LookupFailed(f"a cell of {self.apex} points to its own apex: a referral to itself", name=lowered)
        return Naming(self.domain, origin)

    def owner(self, network: str) -> tuple[Naming, str]:
        """Where a network is published, and its name there. `network`: its name here, or its DNS name elsewhere.

        >>> Naming("rice", "kindred.internal.").owner("java.net.rice.asia.kindred.internal.")
        (Naming(domain='rice', origin='asia.kindred.internal.'), 'java')
        """
        name, net, apex = network.partition(".net.")
        return (self.beyond(apex), name) if net else (self, network)

    def target(self, name: str) -> tuple[int, Address] | str:
        """What an SVCB target names: (generation, address) of a cell, or a network.

        Raises LookupFailed for a name outside this domain or of neither form.
        """
        suffix = "." + self.apex
        lowered = name.lower()
        labels = lowered.removesuffix(suffix).split(".") if lowered.endswith(suffix) else []
        if len(labels) == 2 and labels[1] == "net":
            return labels[0]
        if labels and labels[-1][:1] == "g" and all(part.isdecimal() for part in [*labels[:-1], labels[-1][1:]]):
            return int(labels[-1][1:]), tuple(int(part) for part in reversed(labels[:-1]))
        raise LookupFailed(f"the target {name!r:.120} is neither a cell nor a network of {self.apex}", name=name[:255])
