"""A question across continents: cold and warm in virtual time, and how many waits in a row that is."""

from __future__ import annotations

import numpy as np

from benchmarks.continents import CONTINENTS, Timed, Trips, World, served_beside, trips_from
from benchmarks.grown import Grown
from benchmarks.report import Figure, Report
from gateway.question import Mode, Recall

ISSUE = 4
QUESTIONS = 8
MODES: tuple[tuple[str, Mode], ...] = (("exact", "exact"), ("recall 0.99", Recall(recall=0.99)))


def run(report: Report, grown: Grown) -> None:
    """Figure 4: from each continent. Registries have secondaries on each: in the gateway's own region, or as far as
    another place of the continent. And with the only name server in Europe."""
    regions = len(grown.coverages.leaves)
    for name, mode in MODES:
        title = f"flights, {regions:,} regions, {name}"
        _waits(report, title, grown, mode)
        for here in CONTINENTS:
            trips = trips_from(here)
            _from(report, f"{title}, from {here}, secondary in the region", grown, mode, here, served_beside(trips))
            _from(report, f"{title}, from {here}, secondary on the continent", grown, mode, here, trips)
        for here in ("north-america", "oceania"):
            _from(report, f"{title}, from {here}, name server in europe", grown, mode, "europe", trips_from(here), None)


def _waits(report: Report, title: str, grown: Grown, mode: Mode) -> None:
    """Every wait for the name server takes 1 ms and the networks none; and the other way round."""
    kinds = (
        ("the name server", lambda host: 0.001 if host.startswith("ns.") else 0.0, 12),
        ("networks", lambda host: 0.0 if host.startswith("ns.") else 0.001, None),
    )
    for whom, trips, most in kinds:
        cold, warm = _ask(grown, mode, "europe", trips)
        value = float(np.mean([each.seconds for each in cold]) * 1000)
        again = float(np.mean([each.seconds for each in warm]) * 1000)
        bar = None if most is None else f"<= {most}"
        holds = None if most is None else max(each.seconds for each in cold) * 1000 <= most + 0.5
        name = f"{title}: waits for {whom} in a row, connection included"
        report.add(Figure(ISSUE, "4", f"{name}, cold", value, "round trips", None, None, bar, holds))
        report.add(Figure(ISSUE, "4", f"{name}, warm", again, "round trips"))


def _from(
    report: Report, title: str, grown: Grown, mode: Mode, registry: str, trips: Trips, most: float | None = 1.0
) -> None:
    cold, warm = _ask(grown, mode, registry, trips)
    seconds = np.array([each.seconds for each in cold])
    mean, worst = float(seconds.mean()), float(seconds.max())
    bar, holds = (None, None) if most is None else (f"< {most:g}", mean < most)
    report.add(Figure(ISSUE, "4", f"{title}: cold, mean", mean, "s", "worst", mean / worst, bar, holds))
    two = np.array([2 * each.farthest for each in warm])
    ratio = float(np.mean([each.seconds for each in warm]) / two.mean())
    value = float(np.mean([each.seconds for each in warm]))
    against = "two round trips to the farthest network asked"
    report.add(Figure(ISSUE, "4", f"{title}: warm, mean", value, "s", against, ratio, "<= 1.1", ratio <= 1.1))


def _ask(grown: Grown, mode: Mode, registry: str, trips: Trips) -> tuple[list[Timed], list[Timed]]:
    """Each question by a gateway that knows nothing, and again at once by the same gateway."""
    cold, warm = [], []
    for query in grown.coverages.questions[:QUESTIONS]:
        world = World(grown, f"ns.{registry}.example", trips)
        cold.append(world.ask(query, mode))
        warm.append(world.ask(query, mode))
        world.close()
    return cold, warm
