"""What the answer guarantees: are the neighbours complete, and if not, up to where and by whose absence.

Precisely: no packet that was covered at `as_of`, unchanged since, and held by an honest enrolled network,
precedes a returned one of its arm, out to `complete_within`. It says nothing about what the outcomes mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gateway.disposition import Disposition, Outcome
from gateway.planning.expectation import Array
from gateway.planning.merge import RADIUS_SLACK
from gateway.planning.outlook import Standing
from gateway.planning.path import shown
from gateway.planning.resolution import Walk


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that could have held neighbours and did not say: a network, or a cell that stayed closed.

    lower_bound: nothing in it is nearer. at_most: how many of the K it could have held, K for each arm of which it may
    hold any; counts in regions decide nothing here, for deposits since may have made them too small. reason: why a cell
    could not be opened.
    """

    network: str | None
    cell: str | None
    disposition: str
    lower_bound: float
    at_most: int
    reason: str | None = None

    def document(self) -> dict[str, object]:
        return {
            "network": self.network,
            "cell": self.cell,
            "disposition": self.disposition,
            "lower_bound": self.lower_bound,
            "at_most": self.at_most,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Relied:
    """A coverage that the answer relied on."""

    network: str
    serial: int
    age_s: float


@dataclass(frozen=True, slots=True)
class Certificate:
    """complete_within: everything nearer is certainly in the answer; None = everything that is covered is.

    as_of: seconds since the epoch, 0 where nobody knows. stale, apart: what was read of the registry is beyond its
    time, or of times too far apart to be put together; the neighbours are not called complete then.
    """

    neighbours_complete: bool
    complete_within: float | None
    complete_within_per: Mapping[str, float | None]
    as_of: int
    stale: bool
    coverage: Sequence[Relied]
    missing: Sequence[Missing]
    apart: bool = False

    def document(self) -> dict[str, object]:
        """The `certificate` member of an answer."""
        return {
            "neighbours_complete": self.neighbours_complete,
            "complete_within": self.complete_within,
            "complete_within_per": dict(self.complete_within_per),
            "as_of": self.as_of or None,
            "stale": self.stale,
            "apart": self.apart,
            "coverage": [
                {"network": each.network, "serial": each.serial, "age_s": each.age_s} for each in self.coverage
            ],
            "missing": [each.document() for each in self.missing],
        }


def certify(
    *,
    walk: Walk,
    standing: Standing,
    outcomes: Mapping[str, Outcome],
    truncated: Mapping[str, Mapping[str, float]],
    radius: Array,
    arms: Sequence[str],
    k: int,
    nobody_covers: bool,
    as_of: int,
    stale: bool,
    coverage: Sequence[Relied],
    apart: bool = False,
) -> Certificate:
    """Judge one finished question.

    radius: (a,) K-th distance per arm, infinite where fewer than K were found. outcomes: disposition per
    network that was asked. truncated: for networks that sent less than they should, the distance per arm up to
    which they did send. nobody_covers: the domain has no tree at all.
    """
    missing: list[Missing] = []
    # The radius is rounded up, and equals of the K-th may be absent: what is certified ends just before it.
    within = radius * (1.0 - 2.0 * RADIUS_SLACK)

    def miss(
        lower: Array,
        counts: Array,
        disposition: str,
        network: str | None = None,
        cell: str | None = None,
        reason: str | None = None,
    ) -> None:
        relevant = (counts > 0) & (lower <= radius)
        if not relevant.any():
            return
        np.minimum(within, np.where(relevant, lower, np.inf), out=within)
        at_most = k * int(relevant.sum())
        missing.append(Missing(network, cell, disposition, float(lower[relevant].min()), at_most, reason))

    for row, name in enumerate(standing.names):
        outcome = outcomes.get(name)
        if outcome is None:
            miss(standing.lower[row], standing.counts[row], "unasked", network=name)
        elif outcome.disposition is not Disposition.ANSWERED:
            miss(standing.lower[row], standing.counts[row], outcome.disposition.value, network=name)
        elif name in truncated:
            reached = np.array([truncated[name].get(arm, np.inf) for arm in arms])
            lower = np.maximum(standing.lower[row], reached)
            miss(lower, np.where(np.isfinite(reached), standing.counts[row], 0), "truncated", network=name)
    for closed in np.flatnonzero((walk.failed | walk.closed) & walk.reaches(radius)).tolist():
        what = "unresolved" if walk.failed[closed] else "unopened"
        lower = np.full(len(arms), walk.lower[closed])
        miss(lower, walk.counts[closed], what, cell=shown(walk.path(closed)), reason=walk.reason(closed))
    if not walk.cells_opened:
        within[:] = 0.0
    if not walk.cells_opened and not nobody_covers:
        why = walk.unresolved.get(())
        missing.append(Missing(None, "", "unopened" if why is None else "unresolved", 0.0, k * len(arms), why))
    per = {arm: (float(r) if np.isfinite(r) else None) for arm, r in zip(arms, within, strict=True)}
    least = float(within.min()) if len(within) else np.inf
    return Certificate(
        neighbours_complete=not missing and not stale and not apart and not nobody_covers and as_of > 0,
        complete_within=least if np.isfinite(least) else None,
        complete_within_per=per,
        as_of=as_of,
        stale=stale,
        coverage=coverage,
        apart=apart,
        missing=sorted(missing, key=lambda each: (each.lower_bound, each.network or "", each.cell or "")),
    )
