"""1e9 packets in 1e5 networks: nothing of it is measured, all of it follows from what benchmarks.scale measured.

Powers and slopes of the sizes measured are carried on to 6.4e6 regions, six times beyond the largest. docs/scale.md has
the assumptions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.coverages import REGIONS
from benchmarks.report import Figure, Report

ISSUE = 4
PACKETS = 1e9
NETWORKS = 1e5
PACKET_OCTETS = 512
CHANGES_PER_DAY = 24  # of one network's coverage: what has come in is gathered anew every hour
RENEWAL_S = 40  # of one network's lease
BUMP_S = 30  # the zone is published at least so often
NETWORK_OCTETS = 330  # of a network's TXT, which says when its lease was renewed
BESIDE_THE_TREE = 3  # waits: a connection, the apex, and after the tree the endpoints of networks
ELSEWHERE = 2  # more, where the domain is another operator's: the referral, and a connection there


@dataclass(frozen=True, slots=True)
class Published:
    """What one size of one population makes: zone octets, names, one changed coverage."""

    population: str
    regions: int
    names: int
    octets: float
    seconds_tree: float
    ms_update: float
    octets_update: float


@dataclass(frozen=True, slots=True)
class Row:
    """One population, size and mode; means over the questions but for p99 and depth."""

    population: str
    mode: str
    regions: int
    depth: int
    levels: float
    cells: float
    ms_p50: float
    ms_p99: float


def run(report: Report, rows: Sequence[Row], published: Sequence[Published]) -> None:
    """Figure 4, by model."""
    regions = NETWORKS * REGIONS
    report.add(_by_model("packets of all networks", PACKETS * PACKET_OCTETS / 1e9, "GB"))
    report.add(_by_model("packets of one network", PACKETS / NETWORKS * PACKET_OCTETS / 1e6, "MB"))
    for population in dict.fromkeys(each.population for each in published):
        of = [each for each in published if each.population == population]
        largest = of[-1]
        scale = regions / largest.regions
        report.add(_by_model(f"{population}: names", largest.names * scale, "names"))
        report.add(_by_model(f"{population}: zone", largest.octets * scale / 1e9, "GB"))
        report.add(_by_model(f"{population}: tree built whole", largest.seconds_tree * scale, "s of processor"))
        per_second = NETWORKS * CHANGES_PER_DAY / 86_400
        report.add(_by_model(f"{population}: coverages changed", per_second, "per s"))
        report.add(_by_model(f"{population}: registry, for these", per_second * largest.ms_update / 1000, "processors"))
        report.add(
            _by_model(f"{population}: IXFR of these, per secondary", per_second * largest.octets_update / 1e6, "MB/s")
        )
        for mode in dict.fromkeys(row.mode for row in rows if row.population == population):
            measured = [row for row in rows if (row.population, row.mode) == (population, mode)]
            levels, cells, ms = (
                carried(measured, [getattr(row, column) for row in measured], regions, power)
                for column, power in (("levels", False), ("cells", True), ("ms_p50", True))
            )
            title = f"{population}, {mode}"
            waits = levels + BESIDE_THE_TREE
            name = f"{title}: waits for name servers in a row, cold"
            report.add(_by_model(name, waits, "round trips", 12))
            report.add(_by_model(f"{name}, another operator's domain", waits + ELSEWHERE, "round trips", 12))
            report.add(_by_model(f"{title}: lookups, cold", cells, "cells"))
            report.add(_by_model(f"{title}: warm, median", ms, "ms of processor"))
    renewed = NETWORKS / RENEWAL_S
    report.add(_by_model("leases renewed", renewed, "per s"))
    turned = min(NETWORKS, renewed * BUMP_S) * NETWORK_OCTETS * 2 / BUMP_S
    report.add(_by_model("IXFR of renewed leases, per secondary", turned / 1e6, "MB/s"))


def carried(measured: Sequence[Row], values: Sequence[float], regions: float, power: bool) -> float:
    """The value at so many regions: a power of them, or linear in their logarithm, through what was measured."""
    log = np.log([row.regions for row in measured])
    fitted = np.polyfit(log, np.log(values) if power else values, 1)
    value = float(np.polyval(fitted, np.log(regions)))
    return float(np.exp(value)) if power else value


def _by_model(name: str, value: float, unit: str, most: float | None = None) -> Figure:
    bar = None if most is None else f"<= {most:g}"
    holds = None if most is None else value <= most
    return Figure(ISSUE, "4", f"1e9 packets, by model: {name}", value, unit, None, None, bar, holds)
