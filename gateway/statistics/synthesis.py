"""Synthesis: what the neighbours' outcomes say, per action (docs/synthesis.md has every formula).

The estimand is the kernel-weighted mean outcome of this neighbourhood under each action, as it was chosen
there. It describes; without randomisation it does not prove that the action made the difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.planning.neighbours import NO_ACTION, Neighbours
from gateway.statistics.arm import arms_of, everybody
from gateway.statistics.contrast import Contrast
from gateway.statistics.corroboration import corroborate, together
from gateway.statistics.difference import DIFFERS, DIFFERS_OBSERVATIONAL, NOT_DISTINGUISHABLE, Difference, differences
from gateway.statistics.estimate import TOO_FEW
from gateway.statistics.finding import Finding, findings_of
from gateway.statistics.interval import LEVEL
from gateway.statistics.observed import Observed
from gateway.statistics.parentage import Parentage
from gateway.statistics.ratio import ratios
from gateway.statistics.standpoint import Standpoint
from registry.likeness.schema import Outcome

OBSERVATIONAL = (
    "OBSERVATIONAL DATA: the actions were chosen, not drawn by lot. Those who got one action may have differed "
    "from the others in ways that nobody recorded. A difference shown here is not a proof of effect."
)


def synthesise(
    neighbours: Neighbours,
    outcomes: Mapping[str, Outcome],
    actions: Sequence[str],
    study: str,
    bandwidth_floor: float,
    opinions: Mapping[str, Neighbours] | None = None,
    standpoint: Standpoint | None = None,
    parentage: Parentage | None = None,
) -> dict[str, object]:
    """The `synthesis` member of an answer: one object per outcome, ready for JSON, null where unknown.

    actions: the arms, in the schema's order; none means that all neighbours are one arm, named "".
    study: "observational" or "randomised". bandwidth_floor: a distance >= 0. opinions: by network, its own k nearest of
    each action; None where they were not asked for. standpoint: where the question stands, and the whole that the
    neighbourhood is adjusted by and compared with. parentage: who tells of durations, where atoms do not.
    """
    standpoint = standpoint or Standpoint()
    moving = any(outcome.kind != "duration" for outcome in outcomes.values())
    adjustment = standpoint.adjustment(neighbours) if moving else None
    arms = arms_of(neighbours, actions, bandwidth_floor)
    # Everybody together is a neighbourhood only where the neighbours are the k nearest over all.
    whole = {NO_ACTION: everybody(neighbours, bandwidth_floor)} if neighbours.per == "all" and actions else {}
    views = together(opinions) if opinions else None
    silent: list[dict[str, object]] | None = None if opinions is None else []
    told_of_parents = {name for name, outcome in outcomes.items() if parentage and outcome.kind == "duration"}
    seen = Observed.all_of((each for name, each in outcomes.items() if name not in told_of_parents), neighbours)
    result: dict[str, object] = {}
    for name, outcome in outcomes.items():
        here, together_here = arms, whole
        if parentage is not None and name in told_of_parents:
            near = parentage.nearest(outcome)
            here = arms_of(near, actions, bandwidth_floor)
            together_here = {NO_ACTION: everybody(near, bandwidth_floor)} if whole else {}
            seen[name] = Observed.of(outcome, near)
        observed = seen[name]
        findings = findings_of(here, observed, outcome, adjustment if outcome.kind != "duration" else None)
        overall = findings_of(together_here, observed, outcome).get(NO_ACTION)
        plain = {action: finding.estimate for action, finding in findings.items()}
        moved = {action: finding.adjusted for action, finding in findings.items()}
        pairs = differences(plain, moved)
        contrast = Contrast.of(standpoint.whole, outcome, plain)
        result[name] = {
            "label": outcome.label,
            "kind": outcome.kind,
            "unit": outcome.unit,
            "better": outcome.better,
            "horizon_s": outcome.horizon_s,
            "study": study,
            "level": LEVEL,
            "actions": {
                action: {**finding.document(), "whole": contrast.arm(action)} for action, finding in findings.items()
            },
            "overall": overall.document() if overall is not None else None,
            "differences": [{**pair.document(study), "whole": contrast.pair(pair)} for pair in pairs],
            "ratios": ratios(plain, moved, pairs[0].level) if pairs and outcome.kind != "ordinal" else [],
            "adjustment": standpoint.document(outcome, sum(plain[a] is not None and moved[a] is None for a in plain)),
            "heterogeneity": silent if views is None else corroborate(views, outcome, actions, bandwidth_floor),
            "verdict": _verdict(pairs, findings, study),
            "distinct": contrast.verdict(),
        }
    return result


def _verdict(pairs: Sequence[Difference], findings: Mapping[str, Finding], study: str) -> str | None:
    """The strongest verdict of any pair; None where there is one arm with enough, and so nothing to compare."""
    verdicts = {pair.verdict(study) for pair in pairs}
    for verdict in (DIFFERS, DIFFERS_OBSERVATIONAL, NOT_DISTINGUISHABLE):
        if verdict in verdicts:
            return verdict
    alone = len(findings) == 1 and all(finding.estimate is not None for finding in findings.values())
    return None if alone else TOO_FEW


def cautions(neighbours: Neighbours, actions: Sequence[str], study: str) -> list[dict[str, str]]:
    """What must be said beside a synthesis: entries {code, text} for the answer's `warnings`."""
    result = []
    if study != "randomised":
        result.append({"code": "observational", "text": OBSERVATIONAL})
    strays = [action for action in neighbours.action if action not in (*actions, NO_ACTION)] if actions else []
    if strays:
        named = ", ".join(repr(action) for action in sorted(set(strays))[:5])
        text = f"{len(strays)} neighbours are left out: their actions are not among those asked for ({named})"
        result.append({"code": "unknown-action", "text": text})
    return result
