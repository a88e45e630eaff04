"""What a question costs as a domain grows: trees of 1,000 to 100,000 regions, and more where told, built and walked.

KINDRED_SCALE=1000000 adds the largest size, which takes some GiB of memory and, the first time, a quarter of an hour
per population to make the coverages; they are kept in build/scale. docs/scale.md says what is measured, what is
modelled, and shows docs/scale.png.
"""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Plot
from threadpoolctl import threadpool_limits

from benchmarks import across, billion
from benchmarks.billion import Published, Row
from benchmarks.continents import endpoint_of
from benchmarks.coverages import REGIONS, draw
from benchmarks.grown import Grown, K
from benchmarks.report import ROOT, Figure, Report, number
from benchmarks.updates import updates
from gateway.planning.merge import RADIUS_SLACK
from gateway.question import Mode, Recall

ISSUE = 4
SIZES = (1_000, 10_000, 100_000, 1_000_000)
DEFAULT_LARGEST = 100_000
POPULATIONS = ("flights", "diamonds", "dense")
QUESTIONS = {"flights": 100, "diamonds": 50, "dense": 12}  # resolved; each twice
ANSWERED = {"flights": 24, "diamonds": 16, "dense": 6}  # asked to the end
UPDATES = 5
MODES: tuple[Mode, ...] = ("exact", Recall(recall=0.99))
HOME = ROOT / "build" / "scale"
PICTURE = ROOT / "docs" / "scale.png"


def run(report: Report) -> None:
    """Figures 3 and 4."""
    largest = int(float(os.environ.get("KINDRED_SCALE", DEFAULT_LARGEST)))
    HOME.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    published: list[Published] = []
    with threadpool_limits(limits=1):
        for population in POPULATIONS:
            for size in SIZES:
                if size <= largest:
                    grown = Grown(draw(population, -(-size // REGIONS), HOME), endpoint_of)
                    published.append(_published(report, population, grown))
                    rows += [_asked(report, population, grown, mode) for mode in MODES]
                    if population == "flights" and size == min(largest, SIZES[-1]):
                        across.run(report, grown)
                    del grown
                    gc.collect()
    _growth(report, rows)
    billion.run(report, rows, published)
    _draw(rows)


def mode_name(mode: Mode) -> str:
    return mode if isinstance(mode, str) else "recall 0.99"


def _title(population: str, regions: int) -> str:
    return f"{population}, {regions:,} regions"


def _published(report: Report, population: str, grown: Grown) -> Published:
    """What the registry makes of the coverages, and what that takes."""
    regions = len(grown.coverages.leaves)
    title = _title(population, regions)
    octets = grown.octets()
    report.add(Figure(ISSUE, "3", f"{title}: names", grown.names(), "names"))
    report.add(Figure(ISSUE, "3", f"{title}: zone, per region", octets / regions, "octets"))
    report.add(Figure(ISSUE, "3", f"{title}: depth of the tree", grown.depth, "levels"))
    report.add(Figure(ISSUE, "3", f"{title}: tree built", grown.seconds_tree, "s of processor"))
    report.add(Figure(ISSUE, "3", f"{title}: zone rendered", grown.seconds_zone, "s of processor"))
    changed = updates(grown, UPDATES)
    seconds, cells, octets_of_ixfr = np.mean(
        [[each.seconds, each.cells, each.octets] for each in changed], axis=0
    ).tolist()
    report.add(Figure(ISSUE, "3", f"{title}: one coverage changed", seconds * 1000, "ms of processor"))
    report.add(Figure(ISSUE, "3", f"{title}: cells changed with one coverage", cells, "cells"))
    report.add(Figure(ISSUE, "3", f"{title}: IXFR of one changed coverage", octets_of_ixfr / 1024, "KiB"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    report.add(Figure(ISSUE, "3", f"{title}: most memory so far, coverages and packets included", peak, "GiB"))
    return Published(population, regions, grown.names(), octets, grown.seconds_tree, seconds * 1000, octets_of_ixfr)


def _asked(report: Report, population: str, grown: Grown, mode: Mode) -> Row:
    """Questions resolved, and some of them asked to the end."""
    regions = len(grown.coverages.leaves)
    title = f"{_title(population, regions)}, {mode_name(mode)}"
    questions = grown.coverages.questions[: QUESTIONS[population]].astype(np.float64)
    found = [grown.resolve(query, mode) for query in questions]
    mean = np.mean([[each.levels, each.cells, each.octets, each.rows, each.networks] for each in found], axis=0)
    seconds = np.array([each.seconds for each in found]) * 1000
    p50, p99 = (float(np.quantile(seconds, share)) for share in (0.5, 0.99))
    report.add(Figure(ISSUE, "3", f"{title}: lookups, cold", float(mean[1]), "cells"))
    report.add(Figure(ISSUE, "3", f"{title}: lookups, warm", grown.fresh(questions, mode), "cells"))
    report.add(Figure(ISSUE, "3", f"{title}: lookups in a row, cold", float(mean[0]), "levels"))
    report.add(Figure(ISSUE, "3", f"{title}: read, cold", float(mean[2]) / 1024, "KiB"))
    bar = None if population == "dense" or regions < SIZES[-1] else "<= 2"
    report.add(Figure(ISSUE, "3", f"{title}: warm, median", p50, "ms of processor"))
    least = float(np.quantile([each.least for each in found], 0.99)) * 1000
    report.add(Figure(ISSUE, "3", f"{title}: one pass over the columns of its cells, p99", least, "ms of processor"))
    holds = None if bar is None else p99 <= 2.0
    report.add(Figure(ISSUE, "3", f"{title}: warm, p99", p99, "ms of processor", None, None, bar, holds))
    _answered(report, title, grown, mode, ANSWERED[population])
    return Row(population, mode_name(mode), regions, grown.depth, float(mean[0]), float(mean[1]), p50, p99)


def _answered(report: Report, title: str, grown: Grown, mode: Mode, questions: int) -> None:
    """Asked to the end: whom, in how many waves, and whether the neighbours are those of brute force."""
    columns = []
    for query in grown.coverages.questions[:questions].astype(np.float64):
        answered = grown.answer(query, mode)
        farthest = grown.coverages.kth(query, K) * (1.0 + RADIUS_SLACK)
        recall = sum(each.distance2**0.5 <= farthest for each in answered.merge.nearest()) / K
        columns.append((answered.asked, answered.waves, recall, answered.stated))
    asked, waves, recall, stated = np.mean(columns, axis=0).tolist()
    report.add(Figure(ISSUE, "3", f"{title}: networks asked", asked, "networks"))
    report.add(Figure(ISSUE, "3", f"{title}: waves in a row", waves, "waves"))
    if mode == "exact":
        assert recall == 1.0, f"{title}: not what brute force finds"
    else:
        report.add(Figure(ISSUE, "3", f"{title}: recall", recall, "", "stated", recall / stated))


def _growth(report: Report, rows: Sequence[Row]) -> None:
    """Depth against the logarithm, lookups and time as powers of the number of regions."""
    for population in POPULATIONS:
        for mode in map(mode_name, MODES):
            of = [row for row in rows if (row.population, row.mode) == (population, mode)]
            log = np.log([row.regions for row in of])
            title = f"{population}, {mode}, {number(of[0].regions)} to {number(of[-1].regions)} regions"
            depth = float(np.polyfit(log / np.log(16), [row.levels for row in of], 1)[0])
            report.add(Figure(ISSUE, "3", f"{title}: lookups in a row per 16-fold growth", depth, "levels"))
            for what, values in (("lookups, cold", [r.cells for r in of]), ("warm median", [r.ms_p50 for r in of])):
                power = float(np.polyfit(log, np.log(values), 1)[0])
                report.add(Figure(ISSUE, "3", f"{title}: {what} grow as regions to the power", power, ""))


def _draw(rows: Sequence[Row]) -> None:
    plot = Plot(figsize=(11, 3.8), dpi=110, layout="constrained")
    panels: list[Axes] = list(plot.subplots(1, 3))
    titles = (
        "lookups in a row, cold",
        "lookups in all, cold",
        "warm: processor time until it is known\nwhom to ask, median and (pale) p99, ms",
    )
    for population, colour in zip(POPULATIONS, ("tab:blue", "tab:orange", "tab:green"), strict=True):
        for mode, line in zip(map(mode_name, MODES), ("-", "--"), strict=True):
            of = [row for row in rows if (row.population, row.mode) == (population, mode)]
            regions = [row.regions for row in of]
            columns = ([row.levels for row in of], [row.cells for row in of], [row.ms_p50 for row in of])
            for panel, values in zip(panels, columns, strict=True):
                panel.plot(regions, values, line, color=colour, marker="o", markersize=3, label=f"{population}, {mode}")
            panels[2].plot(regions, [row.ms_p99 for row in of], line, color=colour, alpha=0.35)
    for panel, title in zip(panels, titles, strict=True):
        panel.set_xscale("log")
        panel.set_xlabel("regions")
        panel.set_title(title, fontsize=9)
        panel.grid(visible=True, alpha=0.3)
    panels[0].set_ylim(bottom=0)
    for panel in panels[1:]:
        panel.set_yscale("log")
    panels[2].axhline(2.0, color="black", linewidth=0.6)
    plot.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8)
    FigureCanvasAgg(plot).print_png(str(PICTURE), metadata={"Software": None})
