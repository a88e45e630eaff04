"""Whom the planner asks in vain: Kindred against an oracle, broadcast and the ways of resource selection.

Made and real federations in memory (benchmarks.simulated): the regions, records, tree, walk, plan, merge and
certificate are the real ones. Every row of the printed tables is one data set shared out over so many networks;
docs/planning.md explains the columns.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from benchmarks.populations import Labels, Population, by_column, by_hash, by_kind, made, real
from benchmarks.report import Figure, Report
from benchmarks.simulated import Fingerprints, Holder, Simulated
from gateway.planning.merge import RADIUS_SLACK
from gateway.question import Budget, Mode, Recall
from regional.clustering import regions_of
from registry.geometry.region import Region

ISSUE = 3
K = 50
ROWS = 50_000
QUESTIONS = 100
RECALL = 0.99
SWEEP = (16, 64, 1024, 4096)
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Row:
    """Means over the questions of one mode in one federation."""

    asked: float
    holding: float
    recall: float
    stated: float
    cells: float
    rounds: float
    waves: float
    complete: float
    ms: float

    @property
    def ratio(self) -> float:
        return self.asked / self.holding


class Federated:
    """One population over its networks, the true neighbours known."""

    def __init__(self, population: Population, owner: Labels, per: str = "all") -> None:
        self.per = per
        started = time.perf_counter()
        numbers = [number for number in range(int(owner.max()) + 1) if (owner == number).any()]
        holders = [
            Holder(f"n{number}", population.fingerprints[owner == number], population.actions[owner == number].tolist())
            for number in numbers
        ]
        actions = sorted(set(population.actions.tolist()) - {""})
        self.simulated = Simulated(holders, _cluster, actions)
        self.networks = len(holders)
        self.questions = population.questions
        pool = self.simulated.pool
        self.true = [
            {arm: np.array(rows, dtype=np.intp) for arm, rows in self.simulated.nearest(query, K, per).items()}
            for query in self.questions
        ]
        self.held: Counts = np.array(
            [
                np.bincount(pool.owner[np.concatenate(list(rows.values()))], minlength=self.networks)
                for rows in self.true
            ]
        )
        self.seconds = time.perf_counter() - started

    def measure(self, mode: Mode) -> Row:
        """Ask every question in this mode."""
        pool = self.simulated.pool
        columns: list[tuple[float, ...]] = []
        for query, true, held in zip(self.questions, self.true, self.held, strict=True):
            started = time.process_time()
            asked = self.simulated.ask(query, K, self.per, mode)
            ms = (time.process_time() - started) * 1000
            distances = pool.distances(query.astype(np.float64))
            wanted = sum(map(len, true.values()))
            found = 0
            for arm, rows in true.items():
                of_arm = [each for each in asked.neighbours if not arm or each.packet.action == arm]
                farthest = float(np.sqrt(distances[rows[-1]])) * (1.0 + RADIUS_SLACK) if len(rows) else 0.0
                found += sum(each.distance2**0.5 <= farthest for each in of_arm)
            columns.append(
                (
                    len(asked.asked),
                    int((held > 0).sum()),
                    found / wanted,
                    1.0 if asked.expected_recall is None else asked.expected_recall,
                    asked.cells,
                    asked.rounds,
                    asked.waves,
                    asked.certificate.neighbours_complete,
                    ms,
                )
            )
        return Row(*np.mean(columns, axis=0).tolist())

    def baselines(self) -> dict[str, int]:
        """Networks that each way must ask, the same number for every question, for a mean recall of 0.99."""
        random = np.random.default_rng(7)
        pool = self.simulated.pool
        orders: dict[str, list[Labels]] = {"oracle": [], "nearest centroid": [], "sampled counts": [], "random": []}
        sums = np.zeros((self.networks, pool.fingerprints.shape[1]))
        np.add.at(sums, pool.owner, pool.fingerprints.astype(np.float64))
        sizes = np.bincount(pool.owner)
        centroids = sums / sizes[:, None]
        regions = np.bincount(
            [pool.names.index(str(leaf.network)) for leaf in self.simulated.leaves], minlength=self.networks
        )
        sample = np.flatnonzero(random.random(len(pool.owner)) < (regions / sizes)[pool.owner])
        stands_for = sizes / np.maximum(np.bincount(pool.owner[sample], minlength=self.networks), 1)
        for query, held in zip(self.questions, self.held, strict=True):
            point = query.astype(np.float64)
            to_centroid = ((centroids - point) ** 2).sum(axis=1)
            near = sample[np.argsort(pool.distances(point)[sample], kind="stable")]
            enough = np.searchsorted(np.cumsum(stands_for[pool.owner[near]]), K) + 1
            votes = np.bincount(pool.owner[near[:enough]], minlength=self.networks) * stands_for
            orders["oracle"].append(np.argsort(-held, kind="stable"))
            orders["nearest centroid"].append(np.argsort(to_centroid, kind="stable"))
            orders["sampled counts"].append(np.lexsort((to_centroid, -votes)))
            orders["random"].append(random.permutation(self.networks))
        result = {}
        for name, order in orders.items():
            found = np.mean(
                [np.cumsum(held[each]) / held.sum() for held, each in zip(self.held, order, strict=True)], axis=0
            )
            result[name] = int(np.argmax(found >= RECALL - 1e-12)) + 1
        return result


def _cluster(fingerprints: Fingerprints, actions: Sequence[str]) -> Sequence[Region]:
    return regions_of(fingerprints, actions, min_cohort=1)[0]


def run(report: Report) -> None:
    """Figures 1 to 3 and their tables."""
    with threadpool_limits(limits=1):
        _many_networks(report)
        _real(report)
        _sweep(report)


def _many_networks(report: Report) -> None:
    """256 networks by kind, with and without strays: the figures with bars."""
    crash = real("crash", QUESTIONS)
    severity = by_column([f"{v}|{f}" for v, f in zip(crash.columns["dvcat"], crash.columns["frontal"], strict=True)])
    for population in (made("flights", ROWS, QUESTIONS), made("diamonds", ROWS, QUESTIONS), crash, None):
        dense = population is None
        people = population or made("dense", ROWS, QUESTIONS)
        name = "crash by severity" if people is crash else people.name
        for strays in (0.0, 0.02):
            owner = by_kind(people.fingerprints, 256, strays, severity if people is crash else None)
            federated = Federated(people, owner)
            title = f"{name}, {federated.networks} networks, {strays:.0%} strays"
            exact = _show(report, title, federated, "exact", 3.0 if dense or strays else 2.0)
            _bar(report, "1", f"{title}: exact, share of broadcast", exact.asked / federated.networks, 0.10)
            bar = (2.0 if strays else 1.5) if dense else (1.8 if strays else 1.3)
            recall = _show(report, title, federated, Recall(recall=RECALL), bar)
            _bar(report, "2", f"{title}: recall 0.99, share of broadcast", recall.asked / federated.networks, 0.10)
            ways = ", ".join(f"{way} {n}" for way, n in federated.baselines().items())
            print(f"        for recall 0.99 the same number for all questions: {ways}, broadcast {federated.networks}")


def _real(report: Report) -> None:
    """The data sets of examples/: over 64 networks by kind, and as they lie in the world."""
    for name in ("icu", "rice", "drives", "crash", "strikes"):
        people = real(name, QUESTIONS // 2)
        rows = [str(number) for number in range(len(people.fingerprints))]
        places = {
            "icu": lambda columns: ("disease", by_column(columns["cat1"])),
            "rice": lambda columns: ("village", by_column(columns["region"])),
            "drives": lambda _, rows=rows: ("operator", by_hash(rows, 12)),
            "crash": lambda columns: ("area", by_column(columns["site_psu"])),
            "strikes": lambda columns: ("state", by_column(columns["state"])),
        }
        kind = by_kind(people.fingerprints, 64)
        place, owner = places[name](people.columns)
        for how, split in (("kind", kind), (place, owner)):
            federated = Federated(people, split)
            title = f"{name} by {how}, {federated.networks} networks"
            _show(report, title, federated, "exact", None)
            _show(report, title, federated, Recall(recall=RECALL), None)
        if name == "crash":
            federated = Federated(people, kind, per="action")
            title = f"crash by kind per action, {federated.networks} networks"
            _show(report, title, federated, "exact", None)
            _show(report, title, federated, Recall(recall=RECALL), None)


def _sweep(report: Report) -> None:
    """How cost grows with the number of networks."""
    for name in ("flights", "dense"):
        people = made(name, ROWS, QUESTIONS // 2)
        cells, numbers = [], []
        for networks in SWEEP:
            federated = Federated(people, by_kind(people.fingerprints, networks))
            title = f"{name}, {networks} networks"
            exact = _show(report, title, federated, "exact", None)
            _show(report, title, federated, Recall(recall=RECALL), None)
            cells.append(exact.cells)
            numbers.append(networks)
        exponent = float(np.polyfit(np.log(numbers), np.log(cells), 1)[0])
        report.add(Figure(ISSUE, "1", f"{name}: lookups of exact grow as networks to the power", exponent, ""))


def _show(report: Report, title: str, federated: Federated, mode: Mode, bar: float | None) -> Row:
    row = federated.measure(mode)
    exact = mode == "exact"
    assert not (exact and row.complete < 1.0), f"{title}: exact was not complete"
    print(
        f"        {title}: {row.holding:.1f} hold, {row.asked:.1f} asked in {row.waves:.1f} waves, recall"
        f" {row.recall:.4f} (stated {row.stated:.4f}), {row.cells:.0f} of {len(federated.simulated.cells)} cells,"
        f" {row.rounds:.1f} rounds, {row.ms:.0f} ms"
    )
    which = "exact" if exact else "recall 0.99"
    holds = None if bar is None else row.ratio <= bar
    wanted = None if bar is None else f"<= {bar:g}"
    name = f"{title}: {which}, networks asked"
    figure = "1" if exact else "2"
    report.add(Figure(ISSUE, figure, name, row.asked, "networks", "holding", row.ratio, wanted, holds))
    if isinstance(mode, Recall):
        holds = row.recall >= mode.recall if bar is not None else None
        wanted = f">= {mode.recall}" if bar is not None else None
        report.add(Figure(ISSUE, "2", f"{title}: recall measured", row.recall, "", None, None, wanted, holds))
    if not isinstance(mode, Budget) and not exact:
        off = abs(row.recall - row.stated) * 100
        report.add(
            Figure(ISSUE, "3", f"{title}: stated against measured", off, "points", None, None, "<= 0.5", off <= 0.5)
        )
    return row


def _bar(report: Report, figure: str, name: str, value: float, most: float) -> None:
    report.add(Figure(ISSUE, figure, name, value, "", None, None, f"<= {most:g}", value <= most))
