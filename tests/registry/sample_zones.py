"""A small federation's zones, for tests of what serves and reads them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from registry.geometry.cell import Address, CellRecord, Naming
from registry.geometry.region import Region
from registry.zones.zone import NetworkEntry, Publication, Ttls, ZoneSet, domain_zone, origin_zone

ORIGIN = "kindred.internal."
NAMING = Naming("crash.vehicles", ORIGIN)
NESTED = Naming("frontal.crash.vehicles", ORIGIN)
ACTIONS = ("belt", "none")
D = 24
SERIAL = 1_800_000_000
DOMAINS = (NAMING.domain, NESTED.domain)


def leaf(i: int, **target: object) -> CellRecord:
    """A record of region `i`, pointing to a network unless told otherwise."""
    points = np.random.default_rng(i).normal(size=(9, D))
    centre = points.mean(axis=0)
    region = Region(
        id=f"r{i}",
        counts={"belt": 5 + i, "none": 4},
        centre=centre,
        radius=float(np.linalg.norm(points - centre, axis=1).max()) * 1.000001,
        lo=points.min(axis=0),
        hi=points.max(axis=0),
        var=points.var(axis=0),
        spread=1.5,
    )
    return CellRecord(region, **(target or {"network": f"psu-{i % 3:02}"}))  # type: ignore[arg-type]


def tree(width: int = 3) -> dict[Address, tuple[CellRecord, ...]]:
    """A root over `width` leaves of 16 records each; leaf (0,) has but two."""
    cells: dict[Address, tuple[CellRecord, ...]] = {(): tuple(leaf(i, child=(i,)) for i in range(width))}
    for child in range(width):
        cells[child,] = tuple(leaf(100 * child + i) for i in range(2 if child == 0 else 16))
    return cells


def entry(**changes: object) -> NetworkEntry:
    fields: dict[str, object] = {
        "serial": 12,
        "issued": 1_799_999_990.25,
        "lease_s": 120.0,
        "packets": 800,
        "uncovered": 3,
        "key": "ed25519:" + "A" * 43 + "=",
        "engine": "embedded",
        "lapsed": False,
        "endpoints": ("http://127.0.0.1:8101/psu-00", "http://127.0.0.1:9101/psu-00"),
    }
    return NetworkEntry(**{**fields, **changes})  # type: ignore[arg-type]


def publication(**changes: object) -> Publication:
    fields: dict[str, object] = {
        "naming": NAMING,
        "dimension": D,
        "space": bytes(range(32)),
        "schema": bytes(range(1, 33)),
        "actions": ACTIONS,
        "generations": {17: tree()},
        "current": 17,
        "networks": {"psu-00": entry(), "psu-01": entry(endpoints=()), "psu-02": entry(lapsed=True)},
    }
    return Publication(**{**fields, **changes})  # type: ignore[arg-type]


def zone_set(serial: int = SERIAL, ttls: Ttls | None = None, domains: Sequence[str] = DOMAINS) -> ZoneSet:
    """The origin, a domain, and a domain below that one; `domains`: those of the two that are here."""
    ttls = ttls or Ttls()
    nested = publication(naming=NESTED, generations={}, current=0, networks={})
    zones = [domain_zone(each, serial, ttls, DOMAINS) for each in (publication(), nested)]
    return ZoneSet(
        [
            origin_zone(ORIGIN, DOMAINS, serial, ttls, ("127.0.0.1", "::1")),
            *(zone for zone, domain in zip(zones, DOMAINS, strict=True) if domain in domains),
        ]
    )
