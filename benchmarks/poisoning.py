"""What liars can move: one network of five, then two, with absurd outcomes, with copies, with 100,000 fakes.

Five networks hold random fifths of the same nodes. Of every question the pooled difference between two actions and the
robust view (the median of the five networks' own differences) are taken while all are honest, and again when one, or
two, lie in one of three ways. What is told is how far each moved, as a share of the outcome's range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.populations import real
from benchmarks.report import ROOT, Figure, Report
from gateway.corroboration import DISAGREE, corroborate, together
from gateway.neighbours import Neighbours
from gateway.synthesis import synthesise
from registry.schema import Outcome, Schema

ISSUE = 6
NETWORKS = 5
FAKES = 100_000
QUESTIONS = 40
# Data set, outcome, the two actions, K per action.
REAL = (
    ("smoking", "weight_change", ("quit", "smoked-on"), 50),
    ("icu", "died_30d", ("catheter", "no-catheter"), 50),
    ("icu", "died_30d", ("catheter", "no-catheter"), 200),
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
    """The simulated case and the real ones, with one liar and with two."""
    for case in (_simulated(), *_real()):
        honest = [_views(case, case.held, question) for question in case.questions]
        for liars in (1, 2):
            _tell(report, case, liars, honest)


def _tell(report: Report, case: Case, liars: int, honest: Sequence[Views]) -> None:
    """By whichever lie moved it most; beside the pooled view's median over all lies."""
    others = case.held[liars:]
    robust, pooled, known, flagged = [], [], [], []
    for question, before in zip(case.questions, honest, strict=True):
        left = _views(case, others, question)
        if before.robust is None or left.robust is None:
            continue
        known.append(abs(left.robust - before.robust))
        after = [
            _views(case, [*(lie(case, each, others, question) for each in case.held[:liars]), *others], question)
            for lie in LIES
        ]
        robust.append(max(abs(each.robust - before.robust) for each in after if each.robust is not None))
        flagged.append(all(each.disagree for each in after))
        if before.pooled is not None:
            pooled += [abs(each.pooled - before.pooled) for each in after if each.pooled is not None]
    what = f"{case.name}, {liars} of {NETWORKS} lie"
    span = case.high - case.low
    for told, moved in (("median", np.median(robust)), (f"most of {len(robust)}", np.max(robust))):
        share = 100 * float(moved) / span
        bar, holds = ("<= 2%", share <= 2) if liars == 1 else (None, None)
        ratio = float(moved / np.median(pooled))
        report.add(Figure(ISSUE, "5", f"{what}: robust view moved, {told}", share, "%", "pooled", ratio, bar, holds))
    left_out = 100 * float(np.median(known)) / span
    report.add(Figure(ISSUE, "5", f"{what}: had they been left out, median", left_out, "%"))
    told_so = 100 * float(np.mean(flagged))
    bar, holds = ("100%", told_so == 100) if liars == 1 else (None, None)
    report.add(Figure(ISSUE, "5", f"{what}: told that networks disagree", told_so, "%", bar=bar, holds=holds))


@dataclass(frozen=True, slots=True)
class Views:
    """The pooled and the robust difference, None where there are too few, and whether disagreement is told."""

    pooled: float | None
    robust: float | None
    disagree: bool


def _views(case: Case, held: Sequence[Held], question: Float64s) -> Views:
    own = {f"net-{i}": _nearest(case, f"net-{i}", each, question) for i, each in enumerate(held)}
    everyone = _pooled(case, own)
    found: Any = synthesise(everyone, {case.outcome.name: case.outcome}, case.pair, "observational", case.floor)
    differences = found[case.outcome.name]["differences"]
    pooled = differences[0]["estimate"] if differences else None
    told: Any = corroborate(together(own), case.outcome, case.pair, case.floor)
    if not told:
        return Views(pooled, None, disagree=False)
    middle = told[0]["median"]["estimate"]
    return Views(pooled, middle, DISAGREE in told[0]["flags"])


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
