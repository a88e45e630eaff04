"""What attackers get out of the epochs of a network of persons: 100,000 sequences, each with a ward of its own.

The games are tests/regional/attacks.py's, which the tests play in hundreds; what they are: docs/decisions/020-atoms.md.
KINDRED_SEQUENCES says how many of each.
"""

from __future__ import annotations

import os
from typing import Final

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.report import Figure, Report
from tests.regional.attacks import Careful, alone, arrival, auc, conditional_auc, who_left, withdrawal

ISSUE: Final = 6
SEQUENCES: Final = int(os.environ.get("KINDRED_SEQUENCES", "34000"))  # of each game
BAR: Final = 0.55


def run(report: Report) -> None:
    """Figure 4."""
    played = 0
    with threadpool_limits(limits=1):  # matrices of 2 by 2
        for name, game in (("withdrawn", withdrawal), ("arriving", arrival)):
            told = [each for seed in range(SEQUENCES) if (each := game(seed, Careful())) is not None]
            played += len(told)
            what = f"the outcome of one {name}, by what changes between epochs, {len(told):,} sequences"
            _add(report, what, conditional_auc(told))
            single = auc(np.array([alone(each) for each in told]), np.array([each.died for each in told]))
            what = "the same from that one sum over 11 with him in it, the risk being known"
            report.add(Figure(ISSUE, "4", f"attacker's AUC: {what}", single, ""))
        left = [each for seed in range(SEQUENCES) if (each := who_left(seed, Careful())) is not None]
        played += len(left)
        truth, score = (np.array(column) for column in zip(*left, strict=True))
        _add(
            report, f"which of an atom has left, {len(left):,} sequences", auc(score.astype(float), truth.astype(bool))
        )
    report.add(Figure(ISSUE, "4", "attackers: sequences in all", played, ""))


def _add(report: Report, what: str, gained: float) -> None:
    report.add(Figure(ISSUE, "4", f"attacker's AUC: {what}", gained, "", bar=f"<= {BAR}", holds=gained <= BAR))
