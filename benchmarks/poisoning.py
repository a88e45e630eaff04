"""What liars can move: one network of five, then two, with absurd outcomes, with copies, with 100,000 fakes.

Five networks hold random fifths of the same nodes. Of every question the pooled difference between two actions, the
robust mean of the five networks' own differences and their median are taken while all are honest, and again when one,
or two, lie in one of three ways. What is told is how far each moved, as a share of the outcome's range, beside how far
the robust mean moves when whoever lies is left out by one who knows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.populations import real
from benchmarks.report import ROOT, Figure, Report
from gateway.planning.neighbours import Neighbours
from gateway.statistics.corroboration import DISAGREE, corroborate, together
from gateway.statistics.robust import Robust
from gateway.statistics.synthesis import synthesise
from registry.likeness.schema import Outcome, Schema

ISSUE = 6
NETWORKS = 5
FAKES = 100_000
QUESTIONS = 40
# Data set, outcome, the two actions, K per action.
REAL = (
    ("smoking", "weight_change", ("quit", "smoked-on"), 50),
    ("icu", "died_30d", ("catheter", "no-catheter"), 50),
    ("icu", "died_30d", ("catheter", "no-catheter"), 200),
    ("icu", "died_30d", ("catheter", "no-catheter"), 400),
    ("crash", "died", ("belted+airbag", "none+none"), 500),
)
Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """What one network holds: points (n, d), actions, values (n,) of one outcome."""

    points: Float64s
    actions: npt.NDArray[np.object_]
    values: Float64s


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One outcome of one population: its range, whom it compares, K per action, and who asks."""

    name: str
    outcome: Outcome
    low: float
    high: float
    pair: tuple[str, str]
    k: int
    floor: float
    held: tuple[Held, ...]
    questions: Float64s


Lie = Callable[[Case, Held, Sequence[Held], Float64s], Held]


def run(report: Report) -> None:
    """The simulated case and the real ones, with one liar and with two; and the worst of lies."""
    for case in (_simulated(), *_real()):
        honest = [_views(case, case.held, question) for question in case.questions]
        for liars in (1, 2):
            _tell(report, case, liars, honest)
    _worst(report)


def _worst(report: Report, draws: int = 300) -> None:
    """The one of five who may say any number: by how many standard errors it moves either view at most."""
    random = np.random.default_rng(17)
    variance = np.ones(NETWORKS)
    lies = np.arange(-8.0, 8.25, 0.25)
    moved: dict[str, list[float]] = {"robust mean": [], "median": []}
    for _ in range(draws):
        honest = random.normal(size=NETWORKS)
        before = _both(honest, variance)
        after = [_both(np.append(honest[1:], lie), variance) for lie in lies.tolist()]
        for view, how_far in moved.items():
            how_far.append(max(abs(each[view] - before[view]) for each in after if each))
    for view, how_far in moved.items():
        name = f"simulated, 1 of {NETWORKS} says whatever moves it most: {view} moved, median of {draws}"
        report.add(Figure(ISSUE, "5", name, float(np.median(how_far)), "standard errors"))


def _both(estimate: Float64s, variance: Float64s) -> dict[str, float]:
    found = Robust.of(estimate, variance)
    return {} if found is None else {"robust mean": found.value, "median": float(np.median(estimate))}


def _tell(report: Report, case: Case, liars: int, honest: Sequence[Views]) -> None:
    """By whichever lie moved it most; beside the pooled view's median over all lies."""
    others = case.held[liars:]
    moved: dict[str, list[float]] = {"robust mean": [], "median": []}
    pooled, known, flagged = [], [], []
    for question, before in zip(case.questions, honest, strict=True):
        left = _views(case, others, question)
        if not before.views or not left.views:
            continue
        known.append(abs(left.views["robust mean"] - before.views["robust mean"]))
        after = [
            _views(case, [*(lie(case, each, others, question) for each in case.held[:liars]), *others], question)
            for lie in LIES
        ]
        for view, how_far in moved.items():
            how_far.append(max(abs(each.views[view] - before.views[view]) for each in after if each.views))
        flagged.append(all(each.disagree for each in after))
        if before.pooled is not None:
            pooled += [abs(each.pooled - before.pooled) for each in after if each.pooled is not None]
    what, span = f"{case.name}, {liars} of {NETWORKS} lie", case.high - case.low
    usual = float(np.median(pooled))

    def tell(name: str, figures: Sequence[float], *, barred: bool = False) -> None:
        for told, figure in (("median", np.median(figures)), (f"most of {len(figures)}", np.max(figures))):
            share = 100 * float(figure) / span
            bar, holds = ("<= 2%", share <= 2) if barred else (None, None)
            ratio = float(figure) / usual
            report.add(Figure(ISSUE, "5", f"{what}: {name}, {told}", share, "%", "pooled", ratio, bar, holds))

    tell("robust mean moved", moved["robust mean"], barred=liars == 1)
    # Of k independent estimates with one variance, the mean and the mean of those left differ by this much.
    lost = float(np.median([view.error for view in honest])) * (1 / (NETWORKS - liars) - 1 / NETWORKS) ** 0.5
    name = f"{what}: what sampling K nodes each makes the mean of the others differ, root mean square"
    report.add(Figure(ISSUE, "5", name, 100 * lost / span, "%"))
    tell("robust mean, had they been left out", known)
    tell("median moved", moved["median"])
    told_so = 100 * float(np.mean(flagged))
    bar, holds = ("100%", told_so == 100) if liars == 1 else (None, None)
    report.add(Figure(ISSUE, "5", f"{what}: told that networks disagree", told_so, "%", bar=bar, holds=holds))


@dataclass(frozen=True, slots=True)
class Views:
    """The pooled difference, None where there are too few; the robust mean and the median, none where nobody can tell;
    the median standard error of the networks; and whether disagreement is told.
    """

    pooled: float | None
    views: dict[str, float]
    error: float
    disagree: bool


def _views(case: Case, held: Sequence[Held], question: Float64s) -> Views:
    own = {f"net-{i}": _nearest(case, f"net-{i}", each, question) for i, each in enumerate(held)}
    everyone = _pooled(case, own)
    found: Any = synthesise(everyone, {case.outcome.name: case.outcome}, case.pair, "observational", case.floor)
    differences = found[case.outcome.name]["differences"]
    pooled = differences[0]["estimate"] if differences else None
    told: Any = corroborate(together(own), case.outcome, case.pair, case.floor)
    if not told or told[0]["robust"] is None:
        return Views(pooled, {}, np.nan, disagree=bool(told) and DISAGREE in told[0]["flags"])
    views = {"robust mean": told[0]["robust"]["estimate"], "median": told[0]["median"]["estimate"]}
    error = float(np.median([each["se"] for each in told[0]["networks"]]))
    return Views(pooled, views, error, DISAGREE in told[0]["flags"])


def _nearest(case: Case, network: str, held: Held, question: Float64s) -> Neighbours:
    """The network's own K nearest of each action."""
    distance = np.sqrt(((held.points - question) ** 2).sum(axis=1))
    chosen, radius = [], {}
    for action in case.pair:
        rows = np.flatnonzero(held.actions == action)
        rows = rows[np.argsort(distance[rows], kind="stable")[: case.k]]
        chosen.append(rows)
        radius[action] = float(distance[rows[-1]])
    rows = np.concatenate(chosen)
    return Neighbours(
        distance=distance[rows],
        points=held.points[rows],
        action=tuple(held.actions[rows]),
        network=(network,) * len(rows),
        node=tuple(int(row).to_bytes(8, "big") for row in rows),
        weight=np.ones(len(rows)),
        outcomes=tuple({case.outcome.name: float(value)} for value in held.values[rows]),
        size=np.ones(len(rows), np.int64),
        k=case.k,
        per="action",
        radius=radius,
    )


def _pooled(case: Case, own: dict[str, Neighbours]) -> Neighbours:
    """The K nearest of each action, whoever holds them: they are among the networks' own."""
    parts = list(own.values())
    distance = np.concatenate([each.distance for each in parts])
    action = np.array([name for each in parts for name in each.action], dtype=object)
    rows = np.concatenate(
        [
            (of := np.flatnonzero(action == name))[np.argsort(distance[of], kind="stable")[: case.k]]
            for name in case.pair
        ]
    )
    outcomes = [row for each in parts for row in each.outcomes]
    return Neighbours(
        distance=distance[rows],
        points=np.concatenate([each.points for each in parts])[rows],
        action=tuple(action[rows]),
        network=tuple(np.repeat(list(own), [len(each) for each in parts])[rows].tolist()),
        node=tuple(int(row).to_bytes(8, "big") for row in rows),
        weight=np.ones(len(rows)),
        outcomes=tuple(outcomes[row] for row in rows),
        size=np.ones(len(rows), np.int64),
        k=case.k,
        per="action",
        radius={name: float(distance[rows][action[rows] == name].max()) for name in case.pair},
    )


def _absurd(case: Case, held: Held, _others: Sequence[Held], _question: Float64s) -> Held:
    """Its own nodes, every outcome near an end of the range: the best of one action, the worst of the other."""
    return replace(held, values=_extreme(case, held.actions))


def _copies(case: Case, _held: Held, others: Sequence[Held], _question: Float64s) -> Held:
    """The nodes of all the others, as its own, with such outcomes."""
    actions = np.concatenate([each.actions for each in others])
    return Held(np.concatenate([each.points for each in others]), actions, _extreme(case, actions))


def _fakes(case: Case, _held: Held, _others: Sequence[Held], question: Float64s) -> Held:
    """100,000 that never were, in the place of whoever asks, with such outcomes."""
    actions = np.array(case.pair * (FAKES // 2), dtype=object)
    return Held(np.broadcast_to(question, (FAKES, len(question))), actions, _extreme(case, actions))


def _extreme(case: Case, actions: npt.NDArray[np.object_]) -> Float64s:
    """Numbers with a little spread: of who has none at all no variance can be told, and nobody would hear him."""
    values = np.where(actions == case.pair[0], case.high, case.low)
    if case.outcome.kind == "binary":
        return values
    spread = np.random.default_rng(13).uniform(0, 0.01 * (case.high - case.low), len(values))
    return np.where(actions == case.pair[0], values - spread, values + spread)


LIES: Final[tuple[Lie, ...]] = (_absurd, _copies, _fakes)


def _simulated() -> Case:
    """Numbers about 50 of 0 to 100, no effect of the action: K = 500 of 2,000 nodes of each action and network."""
    random = np.random.default_rng(7)
    outcome = Outcome("score", "number", "score", None, None, None, (0.0, 100.0))
    held = tuple(
        Held(
            random.normal(size=(4_000, 8)),
            np.array(("a", "b") * 2_000, dtype=object),
            np.clip(random.normal(50, 10, 4_000), 0, 100),
        )
        for _ in range(NETWORKS)
    )
    return Case("simulated", outcome, 0.0, 100.0, ("a", "b"), 500, 0.1, held, random.normal(size=(QUESTIONS, 8)))


def _real() -> list[Case]:
    """Weight after giving up smoking, death in intensive care, death in crashes: at K = 50 and with all that helps."""
    cases = []
    for data, name, pair, k in REAL:
        people, schema = real(data, QUESTIONS), Schema.from_yaml(ROOT / "examples" / "domains" / f"{data}.yaml")
        outcome = schema.outcomes[name]
        known = np.isfinite(people.outcomes[name])
        part = np.random.default_rng(11).permutation(int(known.sum())) % NETWORKS
        points, actions = people.fingerprints[known].astype(np.float64), people.actions[known]
        values = people.outcomes[name][known]
        low, high = (0.0, 1.0) if outcome.kind == "binary" else (float(values.min()), float(values.max()))
        held = tuple(Held(points[part == i], actions[part == i], values[part == i]) for i in range(NETWORKS))
        questions = people.questions.astype(np.float64)
        cases.append(Case(f"{data} {name} K={k}", outcome, low, high, pair, k, schema.bandwidth_floor, held, questions))
    return cases
