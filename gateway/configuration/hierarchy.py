"""Which registry serves what: the parts of `federation.yaml` that speak of other registries.

`registry.zone` and `registry.delegations` divide the federation's names; `registry.subtrees` and `registry.parents`
divide the regions of one domain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Annotated, Any, Protocol

from pydantic import BeforeValidator, Field

from gateway.configuration.section import Address, Origin, PublicKey, Section
from registry.errors import ConfigError
from registry.publishing.coverage import DomainName, Name
from registry.zones.cut import Cut, ds_rdata

Fault = tuple[tuple[str | int, ...], str]  # path in the file, what is wrong


def _ip(text: object) -> str:
    return str(ip_address(str(text)))


def _ds(text: object) -> str:
    try:
        ds_rdata(str(text))
    except ConfigError as error:
        raise ValueError(error.detail) from None
    return str(text)


class DelegationSection(Section):
    """servers: names, relative to the origin unless they end in a dot, with the addresses that are published."""

    servers: Annotated[dict[str, list[Annotated[str, BeforeValidator(_ip)]]], Field(min_length=1)]
    ds: tuple[Annotated[str, BeforeValidator(_ds)], ...] = ()


class BoundSection(Section):
    """A ball of the domain's space: a situation, and how far from it (a distance as the schema's experts mean it)."""

    situation: Mapping[str, Any]
    radius: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SubtreeSection(Section):
    """A registry that may speak for a part of `domain`, where it serves that domain under its own origin."""

    domain: DomainName
    origin: Origin
    key: PublicKey | None = None
    within: BoundSection | None = None


class ParentSection(Section):
    """The registry (`registry`: its HTTP address, `origin`) in whose tree this one is the subtree `name`."""

    registry: Address
    origin: Origin
    name: Name


class Hierarchy(Protocol):
    """What the registry's section has of this."""

    @property
    def origin(self) -> str: ...
    @property
    def zone(self) -> str | None: ...
    @property
    def delegations(self) -> Mapping[str, DelegationSection]: ...
    @property
    def subtrees(self) -> Mapping[str, SubtreeSection]: ...
    @property
    def parents(self) -> Mapping[str, ParentSection]: ...


def served(registry: Hierarchy, domains: Sequence[str]) -> list[str]:
    """Those domains that this registry serves itself: below its zone, and not delegated."""
    return [
        name
        for name in domains
        if (registry.zone is None or _below(name, registry.zone))
        and not any(_at_or_below(name, cut) for cut in registry.delegations)
    ]


def cuts(registry: Hierarchy) -> list[Cut]:
    """The delegations, with absolute names."""
    return [
        Cut(
            name=f"{name}.{registry.origin}",
            servers={_absolute(host, registry.origin): tuple(ips) for host, ips in section.servers.items()},
            ds=tuple(map(ds_rdata, section.ds)),
        )
        for name, section in registry.delegations.items()
    ]


def faults(registry: Hierarchy, domains: Sequence[str]) -> Iterator[Fault]:
    """What does not fit together."""
    own = served(registry, domains)
    if registry.zone in domains:
        yield ("registry", "zone"), f"{registry.zone!r} is a domain too; a zone above the domains is wanted"
    for name, section in registry.delegations.items():
        yield from _cut_faults(registry, name, section, own)
    for name, subtree in registry.subtrees.items():
        place = ("registry", "subtrees", name)
        if subtree.domain not in own:
            yield (*place, "domain"), f"{subtree.domain!r} is not served here; served are {', '.join(own)}"
        if subtree.origin == registry.origin:
            yield (*place, "origin"), f"{subtree.origin} is this registry's own: that would be a referral to itself"
        if any(subtree.domain == other.domain and subtree.origin == other.origin
               for before, other in registry.subtrees.items() if before < name):  # fmt: skip
            yield (*place, "origin"), f"another subtree leads to {subtree.origin} already"
    for domain, parent in registry.parents.items():
        place = ("registry", "parents", domain)
        if domain not in own:
            yield place, f"{domain!r} is not served here; served are {', '.join(own)}"
        if parent.origin == registry.origin:
            yield (*place, "origin"), f"{parent.origin} is this registry's own; a parent has another"
        if any(each.domain == domain and each.origin == parent.origin for each in registry.subtrees.values()):
            yield (*place, "origin"), f"{parent.origin} is a subtree of this registry too: that would be a circle"


def _cut_faults(registry: Hierarchy, name: str, section: DelegationSection, own: Sequence[str]) -> Iterator[Fault]:
    place = ("registry", "delegations", name)
    if registry.zone is not None and not _below(name, registry.zone):
        yield place, f"it is not below this registry's zone, {registry.zone}"
    for domain in own:
        if _below(name, domain):
            yield (
                place,
                f"it is below the domain {domain!r}, which is served here; delegate names above or beside domains",
            )
    for other in registry.delegations:
        if _below(name, other):
            yield place, f"it is below {other!r}, which is delegated already: delegate it there"
    for host, addresses in section.servers.items():
        labels = host.removesuffix(".").lower().split(".")
        if not all(0 < len(label) < 64 and label.replace("-", "").isalnum() and label.isascii() for label in labels):
            yield (*place, "servers", host), f"{host!r} is no name of a server"
        elif not addresses and _at_or_below(_absolute(host, registry.origin), f"{name}.{registry.origin}"):
            yield (*place, "servers", host), "it lies below the name that it serves, so its address is due here (glue)"


def _absolute(name: str, origin: str) -> str:
    return name.lower() if name.endswith(".") else f"{name.lower()}.{origin}"


def _below(name: str, other: str) -> bool:
    return name.endswith(f".{other}")


def _at_or_below(name: str, other: str) -> bool:
    return name == other or _below(name, other)
