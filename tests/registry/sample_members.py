"""A registry of one or two small domains, for tests: keys, coverages, and the parts put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from registry.clock import Clock
from registry.geometry.region import Region
from registry.keys import SigningKey
from registry.likeness.schema import Schema
from registry.publishing.coverage import Coverage, Renewal
from registry.publishing.enrolment import DomainEntry, Enrolment
from registry.publishing.journal import Journal
from registry.publishing.member import Member
from registry.publishing.publisher import Publisher, PublisherTimes

ORIGIN = "kindred.internal."
NETWORKS = {"north": "crash.vehicles", "south": "crash.vehicles", "west": "drives"}
AnyClock = TypeVar("AnyClock", bound=Clock)
KEYS = {name: SigningKey(bytes([number]) * 32) for number, name in enumerate([*NETWORKS, "stranger"], 1)}


def schema(
    scale: float = 1.0, min_cohort: int = 1, title: str = "Crashes", actions: Sequence[str] = ("no", "yes")
) -> Schema:
    feature = {"kind": "number", "label": "a size", "unit": "m", "scale": scale, "range": [-100.0, 100.0]}
    return Schema.from_document(
        {
            "title": title,
            "study": "observational",
            "release": "packets",
            "min_cohort": min_cohort,
            "bandwidth_floor": 0.5,
            "actions": {action: f"it is {action}" for action in actions},
            "features": {"width": feature, "height": feature},
            "outcomes": {"death": {"kind": "binary", "label": "death", "horizon": "30d"}},
        },
        "crash.yaml",
    )


SCHEMA = schema()
DIMENSION = SCHEMA.dimension


def region(name: str, place: float, count: int = 3, actions: Sequence[str] = ("no", "yes")) -> Region:
    centre = np.full(DIMENSION, place)
    return Region(
        id=name,
        counts=dict.fromkeys(actions, count),
        centre=centre,
        radius=1.0,
        lo=centre - 0.5,
        hi=centre + 0.5,
        var=np.full(DIMENSION, 0.05),
        spread=0.01,
    )


def coverage(network: str, serial: int, issued: float, amount: int = 5, **changes: Any) -> Coverage:
    fields: dict[str, Any] = {
        "domain": NETWORKS[network],
        "network": network,
        "space": SCHEMA.space.hex(),
        "schema": SCHEMA.digest.hex(),
        "serial": serial,
        "issued": issued,
        "lease_s": 120.0,
        "packets": 6 * amount + 1,
        "uncovered": 1,
        "regions": tuple(region(f"r{i}", float(i)) for i in range(amount)),
    }
    return Coverage(**{**fields, **changes})


def signed(network: str, serial: int, issued: float, amount: int = 5, **changes: Any) -> dict[str, Any]:
    return coverage(network, serial, issued, amount, **changes).document(KEYS[network])


def renewal(network: str, serial: int, issued: float, lease_s: float = 120.0) -> dict[str, Any]:
    return Renewal(NETWORKS[network], network, serial, issued, lease_s).document(KEYS[network])


@dataclass(frozen=True)
class Registry(Generic[AnyClock]):
    """The parts of one registry."""

    clock: AnyClock
    journal: Journal
    enrolment: Enrolment
    publisher: Publisher


def members(keys: Mapping[str, SigningKey] = KEYS) -> list[Member]:
    return [
        Member(name, domain, keys[name].public, (f"http://127.0.0.1:9/{name}",), "embedded")
        for name, domain in NETWORKS.items()
    ]


def open_registry(
    directory: Path,
    clock: AnyClock,
    times: PublisherTimes | None = None,
    schemas: Mapping[str, Schema] | None = None,
    keys: Mapping[str, SigningKey] = KEYS,
) -> Registry[AnyClock]:
    schemas = schemas or dict.fromkeys(sorted(set(NETWORKS.values())), SCHEMA)
    journal = Journal(directory / "registry")
    domains = [
        DomainEntry(name, each, f"http://127.0.0.1:9/v1/domains/{name}/schema") for name, each in schemas.items()
    ]
    enrolment = Enrolment(domains, members(keys), journal, clock, ORIGIN)
    return Registry(clock, journal, enrolment, Publisher(enrolment, journal, clock, times=times))
