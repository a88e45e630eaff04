"""Precision sharpens with scale: nearer neighbours, less bias, better predictions, the more packets there are.

Each real data set is cut at random into smaller and smaller parts that share no packet. The same held-out situations
ask each part for their K nearest; the outcome predicted is the plain mean of the neighbours'. All rows of one crash or
of one farm are held out together. Writes docs/precision.png.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Plot
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from benchmarks.populations import Population, real
from benchmarks.report import ROOT, Figure, Report

ISSUE = 3
K = 50
QUESTIONS = 600
DRAWS = 12  # parts of one size that are used, at most
PICTURE = ROOT / "docs" / "precision.png"
# Data set, outcome, what the score is: Brier skill where the outcome is yes or no, else R2.
ASKED = (
    ("icu", "died_30d", "death within 30 days, intensive care"),
    ("crash", "died", "death of the occupant, crashes"),
    ("strikes", "affected", "effect on the flight, bird strikes"),
    ("rice", "yield", "yield per hectare, rice farms"),
)
TOGETHER = {"crash": "caseid", "rice": "id"}
Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Against packets (s,): distance to the K-th neighbour, skill, and bias; of one data set.

    skill: 1 - squared error / squared error of the mean over all, averaged over the parts (Brier skill score; R2).
    bias: the squared error that stays when predictions are averaged over the parts, less that of all packets, as a
    share of the outcome's variance: what is wrong because the neighbours are too far away, not too few.
    """

    label: str
    packets: Float64s
    distance: Float64s
    skill: Float64s
    bias: Float64s


def run(report: Report) -> None:
    """The curves, the picture, and whether each sharpens."""
    with threadpool_limits(limits=1):
        curves = [
            _curve(real(name, QUESTIONS if name != "rice" else 150), outcome, label) for name, outcome, label in ASKED
        ]
    for curve in curves:
        span = f"{curve.packets[0]:.0f} to {curve.packets[-1]:.0f} packets"
        for what, values in (("distance to the K-th", curve.distance), ("skill", curve.skill), ("bias", curve.bias)):
            print(f"        {curve.label}: {what}: " + "  ".join(f"{value:.3g}" for value in values))
        nearer = bool((np.diff(curve.distance) < 0).all())
        name = f"{curve.label}: distance to the K-th, {span}"
        ratio = float(curve.distance[-1] / curve.distance[0])
        report.add(Figure(ISSUE, "P", name, float(curve.distance[-1]), "", "fewest packets", ratio, "falls", nearer))
        gained = float(curve.skill[-1] - curve.skill[0])
        name = f"{curve.label}: skill gained, {span}"
        report.add(Figure(ISSUE, "P", name, gained, "", None, None, "> 0", gained > 0))
        lost = float(curve.bias[0])
        name = f"{curve.label}: bias lost, {span}"
        report.add(Figure(ISSUE, "P", name, lost, "of variance", None, None, "> 0", lost > 0))
    _draw(curves)


def _curve(people: Population, outcome: str, label: str) -> Curve:
    known = np.isfinite(people.outcomes[outcome])
    points, values = people.fingerprints[known].astype(np.float64), people.outcomes[outcome][known]
    asked = np.isfinite(people.asked[outcome])
    questions, truth = people.questions[asked].astype(np.float64), people.asked[outcome][asked]
    random = np.random.default_rng(5)
    sizes = [len(points)]
    while sizes[-1] / 2 >= 2 * K:
        sizes.append(sizes[-1] // 2)
    baseline = float(np.mean((truth - values.mean()) ** 2))
    distances, skills, errors = [], [], []
    for size in reversed(sizes):
        draws = min(DRAWS, len(points) // size)
        shuffled = random.permutation(len(points))
        predicted = np.zeros((draws, len(truth)))
        kth = np.zeros(draws)
        for draw in range(draws):
            rows = shuffled[draw * size : (draw + 1) * size]
            distance, nearest = NearestNeighbors(n_neighbors=K).fit(points[rows]).kneighbors(questions)
            predicted[draw] = values[rows][nearest].mean(axis=1)
            kth[draw] = distance[:, -1].mean()
        distances.append(kth.mean())
        skills.append(1.0 - np.mean((truth - predicted) ** 2) / baseline)
        # The variance that is left in the mean over the parts is taken off; of all packets, the neighbours' own.
        spread = predicted.var(axis=0, ddof=1).mean() / draws if draws > 1 else _own_variance(values, nearest)
        errors.append(np.mean((truth - predicted.mean(axis=0)) ** 2) - spread)
    bias = (np.array(errors) - errors[-1]) / baseline
    return Curve(label, np.array(sizes[::-1], dtype=np.float64), np.array(distances), np.array(skills), bias)


def _own_variance(values: Float64s, nearest: npt.NDArray[np.intp]) -> float:
    return float(values[nearest].var(axis=1, ddof=1).mean() / K)


def _draw(curves: list[Curve]) -> None:
    plot = Plot(figsize=(11, 3.8), dpi=110, layout="constrained")
    titles = (
        "distance to the 50th neighbour\n(share of that among the fewest)",
        "bias: squared error from neighbours too far\n(share of the outcome's variance)",
        "skill of the plain neighbour mean\n(Brier skill; R2 for rice)",
    )
    panels: list[Axes] = list(plot.subplots(1, 3))
    for curve in curves:
        columns = (curve.distance / curve.distance[0], curve.bias, curve.skill)
        for panel, values in zip(panels, columns, strict=True):
            panel.plot(curve.packets, values, marker="o", markersize=3, linewidth=1.4, label=curve.label)
    for panel, title in zip(panels, titles, strict=True):
        panel.set_xscale("log")
        panel.set_xlabel("packets")
        panel.set_title(title, fontsize=9)
        panel.grid(visible=True, alpha=0.3)
        panel.axhline(0, color="black", linewidth=0.6)
    plot.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    FigureCanvasAgg(plot).print_png(str(PICTURE), metadata={"Software": None})
