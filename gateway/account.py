"""The account that an answer gives: what became of each network met, and what must be said beside the neighbours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from gateway.answer import Asked
from gateway.certificate import Certificate
from gateway.disposition import Disposition, Outcome
from gateway.planning.candidates import Candidates
from gateway.planning.expectation import Array
from gateway.planning.outlook import Standing
from gateway.question import Mode

WARNINGS: Final = {
    "incomplete": "Networks that could hold nearer neighbours did not answer in time; see certificate.missing.",
    "left-out": "The mode stopped before the neighbours were proved complete; see expected_recall.",
    "nobody-covers": "No network covers this domain yet.",
    "stale": "The registry does not answer: the walk used what it said before, beyond its time to live.",
    "age-unknown": "The registry's records came through a cache that is not ours, unsigned: their age is not known.",
    "apart": "What was read of the registry may be of times further apart than it keeps what it replaces.",
    "lapsed": "The lease of a network that was asked is over: its coverage may be out of date.",
    "outside": "A registry that runs a part of the domain serves more than its parent has published of it: what lies "
    "beyond is not covered, and was not relied upon.",
    "ties": "More packets lie at exactly the K-th distance than were returned; the order among equals is fixed.",
}


def listed(
    standing: Standing,
    outcomes: Mapping[str, Outcome],
    neighbours: Candidates,
    radius: Array,
    promise: Array,
    mode: Mode,
) -> list[Asked]:
    """Every network met, who gave most first. outcomes: of those that were asked; the others were skipped.

    radius: (a,) distance of the K-th neighbour per arm. promise: (n, a) neighbours still expected of each network.
    """
    contributed: Counter[str] = Counter()
    for name, size in zip(neighbours.senders(), neighbours.sizes().tolist(), strict=True):
        contributed[name] += size
    found = []
    for row, name in enumerate(standing.names):
        outcome = outcomes.get(name)
        if outcome is None:
            near = ((standing.lower[row] <= radius) & (standing.counts[row] > 0)).any()
            reason = f"nothing of it is nearer than {float(standing.lower[row].min()):.4g}"
            if near:
                stop = "the deadline came first" if mode == "exact" else "the mode left it out"
                reason = f"{stop}; about {float(promise[row].sum()):.2g} of the neighbours are expected there"
            outcome = Outcome(Disposition.SKIPPED, reason)
        found.append(Asked(name, outcome, contributed[name]))
    return sorted(found, key=lambda each: (-each.contributed, each.outcome.ms is None, each.name))


def warned(
    certificate: Certificate, mode: Mode, *, covered: bool, lapsed: bool, outside: bool, tied: bool
) -> list[dict[str, str]]:
    """Entries {code, text} for the answer's `warnings`.

    covered: anybody covers the domain. lapsed: the lease of one that was asked is over. outside: a registry serves more
    than is published of it. tied: more packets lie at the K-th distance than were returned.
    """
    by_mode = mode != "exact" and all(each.disposition in ("unasked", "unopened") for each in certificate.missing)
    holds = {
        "left-out": bool(certificate.missing) and by_mode,
        "incomplete": bool(certificate.missing) and not by_mode,
        "stale": certificate.stale,
        "age-unknown": not certificate.as_of,
        "apart": certificate.apart,
        "nobody-covers": not covered,
        "lapsed": lapsed,
        "outside": outside,
        "ties": tied,
    }
    return [{"code": code, "text": WARNINGS[code]} for code, said in holds.items() if said]
