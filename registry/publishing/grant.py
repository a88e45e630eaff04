"""What an operator has granted to another registry: to speak for a part of a domain, at one apex, within a bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from registry.errors import ConfigError, LookupFailed, NotGranted, RegionError
from registry.geometry.cell import Naming
from registry.geometry.region import Bounds, Region, Vector
from registry.publishing.coverage import Coverage

_SLACK = 1e-9  # a member that cuts its summary to the bound may round


@dataclass(frozen=True, slots=True, eq=False)
class Ball:
    """centre: (d,)."""

    centre: Vector
    radius: float

    def holds(self, region: Region) -> bool:
        """Whether all that may lie in the region lies in the ball."""
        return bool(Bounds.of([region]).seen(self.centre)[2][0] <= self.radius * (1.0 + _SLACK))


@dataclass(frozen=True, slots=True, eq=False)
class Grant:
    """apex: absolute, the only name that the member's record may point to. within: None = anywhere."""

    apex: str
    within: Ball | None = None


def check_grant(name: str, grant: Grant | None, naming: Naming, others: Mapping[str, Grant | None]) -> None:
    """Raise ConfigError unless the apex is the domain's at another registry, and none of the others leads there."""
    if grant is None:
        return
    try:
        naming.beyond(grant.apex)
    except LookupFailed as error:
        raise ConfigError(f"subtree {name}: {error.detail}") from None
    for other, its in others.items():
        if its is not None and its.apex == grant.apex:
            raise ConfigError(f"subtrees {other} and {name}: both lead to {grant.apex}")


def check_target(name: str, grant: Grant | None, coverage: Coverage) -> None:
    """Raise NotGranted for another target than is granted, or geometry beyond the bound; RegionError for a summary
    of more than one region."""
    if coverage.apex != (None if grant is None else grant.apex):
        granted = "packets of its own" if grant is None else grant.apex
        raise NotGranted(f"{name} may point to {granted}, not to {coverage.apex or 'packets of its own'}")
    if grant is None:
        return
    if len(coverage.regions) > 1:
        raise RegionError(f"{name}: a summary is of one region, found {len(coverage.regions)}")
    for region in coverage.regions:
        if grant.within is not None and not grant.within.holds(region):
            radius = grant.within.radius
            raise NotGranted(f"{name}: its summary reaches beyond the bound granted to it, a ball of radius {radius:g}")
