"""How well the intervals hold, and how good the predictions are.

(a) the stated estimand, the kernel-weighted mean of this neighbourhood: real situations, simulated outcomes;
(b) the conditional mean m(x) of who asks, plain and adjusted, overall and for the most atypical fifth;
(c) real outcomes of held-out nodes: intervals for one more value, reliability of proportions, skill beside pooled
scikit-learn KNN.

The simulated outcomes follow models fitted to the real ones (benchmarks/fates.py). Seeds are fixed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from benchmarks.crowd import Crowd
from benchmarks.fates import SEED, Fates
from benchmarks.intervals import intervals
from benchmarks.report import Figure, Report
from gateway.planning.neighbours import Neighbours
from gateway.statistics.adjustment import Adjustment
from gateway.statistics.arm import arms_of
from gateway.statistics.estimate import Estimate, Mean, Proportion
from gateway.statistics.interval import LEVEL
from gateway.statistics.observed import Observed
from gateway.statistics.prediction import predicted
from gateway.statistics.standpoint import Standpoint
from gateway.statistics.synthesis import synthesise
from gateway.statistics.whole import Whole
from registry.likeness.schema import Outcome

ISSUE = 6
K: Final = 50
Float64s = npt.NDArray[np.float64]


def run(report: Report) -> None:
    """All three parts, and the intervals where nothing depends on where one stands."""
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        intervals(report)
        for name, outcome in (("icu", "died_30d"), ("smoking", "weight_change"), ("rice", "yield")):
            for truth in ("trees", "smooth"):
                simulated = Fates.of(name, outcome, truth)
                _stated(report, simulated)
                _conditional(report, simulated)
        for name, outcome, together in (
            ("rice", "yield", "id"),
            ("smoking", "weight_change", None),
            ("smoking", "died", None),
            ("icu", "died_30d", None),
            ("crash", "died", "caseid"),
            ("strikes", "affected", None),
        ):
            _real(report, name, outcome, together)


def _stated(report: Report, simulated: Fates, questions: int = 150, draws: int = 12) -> None:
    """Figure 2(a): the neighbours stay, their outcomes are drawn again and again."""
    random = np.random.default_rng(SEED)
    held: list[bool] = []
    crowds = [simulated.draw(seed) for seed in range(draws)]
    for row in random.choice(len(simulated.crowd.points), questions, replace=False).tolist():
        query = simulated.crowd.points[row] + random.normal(0, 0.05, simulated.crowd.points.shape[1])
        rows, neighbours = crowds[0].nearest(query, K, simulated.actions)
        arms = arms_of(neighbours, simulated.actions, simulated.crowd.schema.bandwidth_floor)
        for crowd in crowds:
            told = _told(simulated, _again(crowd, rows, neighbours), None, query)
            for place, action in enumerate(simulated.actions):
                arm, found = arms[action], told["actions"][action]
                if found["low"] is not None:
                    truth = float(np.average(simulated.mean[rows[arm.members], place], weights=arm.kernel))
                    held.append(found["low"] <= truth <= found["high"])
    share = float(np.mean(held))
    name = f"(a) {simulated.name} {simulated.outcome.name}: the neighbourhood's mean is in the interval, n={len(held)}"
    report.add(Figure(ISSUE, "2", name, share, "", bar=">= 0.93", holds=share >= 0.93))


def _conditional(report: Report, simulated: Fates, questions: int = 120, draws: int = 10) -> None:
    """Figure 2(b): the interval, and the mean of the one who asks; every draw with its own tables."""
    random = np.random.default_rng(SEED + 1)
    asked = random.choice(len(simulated.crowd.points), questions, replace=False)
    others = np.setdiff1d(np.arange(len(simulated.crowd.points)), asked)
    tally = {"plain": Tally(), "adjusted": Tally()}
    for seed in range(draws):
        crowd = simulated.draw(1000 + seed).part(others)
        whole = crowd.whole()
        for row in asked.tolist():
            query = simulated.crowd.points[row]
            _, neighbours = crowd.nearest(query, K, simulated.actions)
            told = _told(simulated, neighbours, whole, query)
            for place, action in enumerate(simulated.actions):
                found, truth = told["actions"][action], float(simulated.mean[row, place])
                far = neighbours.radius.get(action, np.inf)
                for way, each in (("plain", found), ("adjusted", found["adjusted"])):
                    if each is not None and each["low"] is not None:
                        tally[way].add(each, truth, far)
    for way, each in tally.items():
        overall, atypical = each.coverage()
        what = (
            f"(b) {simulated.name} {simulated.outcome.name}, K={K}: m(x) is in the {way} interval, n={len(each.held)}"
        )
        report.add(Figure(ISSUE, "2", what, overall, ""))
        report.add(Figure(ISSUE, "2", f"{what}, most atypical fifth", atypical, ""))
        report.add(Figure(ISSUE, "2", f"{what}: root mean squared error", each.error(), simulated.outcome.unit or ""))


@dataclass(slots=True)
class Tally:
    """Whether intervals held, by how much their middle was off, and how far the K-th neighbour was."""

    held: list[bool] = field(default_factory=list)
    off: list[float] = field(default_factory=list)
    far: list[float] = field(default_factory=list)

    def add(self, found: Any, truth: float, far: float) -> None:
        self.held.append(found["low"] <= truth <= found["high"])
        self.off.append(found["estimate"] - truth)
        self.far.append(far)

    def coverage(self) -> tuple[float, float]:
        """Overall, and of the fifth whose neighbours are farthest."""
        held, far = np.array(self.held), np.array(self.far)
        return float(held.mean()), float(held[far >= np.quantile(far, 0.8)].mean())

    def error(self) -> float:
        return float(np.sqrt(np.mean(np.square(self.off))))


def _told(simulated: Fates, neighbours: Neighbours, whole: Whole | None, query: Float64s) -> Any:
    schema = simulated.crowd.schema
    found: Any = synthesise(
        neighbours, {simulated.outcome.name: simulated.outcome}, simulated.actions, schema.study,
        schema.bandwidth_floor, standpoint=Standpoint(query, whole),
    )  # fmt: skip
    return found[simulated.outcome.name]


def _again(crowd: Crowd, rows: npt.NDArray[np.intp], neighbours: Neighbours) -> Neighbours:
    """The same neighbours with the outcomes of this draw."""
    return replace(neighbours, outcomes=tuple(crowd.outcomes[i] for i in rows.tolist()))


# ---- (c) real outcomes -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Predictions:
    """Of held-out nodes: what was told of their own action, what scikit-learn's neighbours said, what happened."""

    truth: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    adjusted: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    base: list[float] = field(default_factory=list)
    inside: list[bool] = field(default_factory=list)


def _real(report: Report, name: str, outcome: str, together: str | None) -> None:
    """Figure 2(c), five-fold, whole groups held out."""
    crowd = Crowd.real(name, together)
    values = crowd.of(outcome)
    kind = crowd.schema.outcomes[outcome]
    usable = np.flatnonzero(np.isfinite(values) & (crowd.action != ""))
    crowd, values = crowd.part(usable), values[usable]
    part = crowd.folds(5, SEED)
    found = Predictions()
    for fold in range(5):
        training = np.flatnonzero(part != fold)
        known = crowd.part(training)
        whole = known.whole()
        for row in np.flatnonzero(part == fold).tolist():
            _predict(found, known, values[training], crowd, row, float(values[row]), kind, whole)
    _score(report, f"{name} {outcome}", kind, found)


def _predict(
    found: Predictions,
    known: Crowd,
    values: Float64s,
    crowd: Crowd,
    row: int,
    truth: float,
    kind: Outcome,
    whole: Whole,
) -> None:
    query, action = crowd.points[row], str(crowd.action[row])
    rows, neighbours = known.nearest(query, K, (action,))
    if len(rows) < K:
        return
    arm = arms_of(neighbours, (action,), known.schema.bandwidth_floor)[action]
    sample = arm.sample(Observed.of(kind, neighbours))
    plain: Estimate = Proportion.of(sample) if kind.kind == "binary" else Mean.of(sample)
    adjustment = Adjustment.of(whole, neighbours, query)
    at = adjustment.move(sample, action, kind)
    moved = plain if at is None else adjustment.estimate(at, action, kind)
    found.truth.append(truth)
    found.plain.append(plain.value)
    found.adjusted.append(moved.value)
    found.theirs.append(float(values[rows].mean()))
    found.base.append(float(values[known.action == action].mean()))
    around = predicted(at or sample, LEVEL) if kind.kind == "number" else None
    if around is not None:
        found.inside.append(around.low <= truth <= around.high)


def _score(report: Report, name: str, kind: Outcome, found: Predictions) -> None:
    truth = np.array(found.truth)
    base = float(np.mean((truth - np.array(found.base)) ** 2))

    def skill(of: Sequence[float]) -> float:
        return 1.0 - float(np.mean((truth - np.array(of)) ** 2)) / base

    theirs = skill(found.theirs)
    for way, of in (("plain", found.plain), ("adjusted", found.adjusted)):
        mine = skill(of)
        what = f"(c) {name}: skill of the {way} estimate, n={len(truth)}"
        report.add(
            Figure(ISSUE, "2", what, mine, "", "scikit-learn KNN", mine / theirs if theirs > 0 else None,
                   f">= {theirs:.4f}", mine >= theirs)
        )  # fmt: skip
    if kind.kind == "number":
        share = float(np.mean(found.inside))
        what = f"(c) {name}: held-out values inside the prediction interval, n={len(found.inside)}"
        report.add(Figure(ISSUE, "2", what, share, "", bar="0.93 to 0.97", holds=0.93 <= share <= 0.97))
        return
    for way, of in (("plain", found.plain), ("adjusted", found.adjusted)):
        curve, off = _reliability(np.array(of), truth)
        print(f"        {name}, {way}, told -> happened: " + "  ".join(f"{a:.3f}->{b:.3f}" for a, b in curve))
        report.add(Figure(ISSUE, "2", f"(c) {name}: mean distance of the reliability curve, {way}", off, ""))


def _reliability(told: Float64s, happened: Float64s, bins: int = 8) -> tuple[list[tuple[float, float]], float]:
    """Bins of equal size: (mean told, share that happened); and the mean distance between the two."""
    order = np.argsort(told, kind="stable")
    parts = [each for each in np.array_split(order, bins) if len(each)]
    curve = [(float(told[each].mean()), float(happened[each].mean())) for each in parts]
    return curve, float(np.mean([abs(a - b) for a, b in curve]))
