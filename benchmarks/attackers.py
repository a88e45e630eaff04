"""What attackers get out of the epochs of a network of persons: 100,000 sequences, each with a ward of its own.

The games are tests/regional/attacks.py's, which the tests play in hundreds; what they are: docs/decisions/020-atoms.md.
KINDRED_SEQUENCES says how many of each. Beside them what is not hidden, which has no bar: that somebody is there.
"""

from __future__ import annotations

import os
from typing import Final

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from benchmarks.federations import ROOT
from benchmarks.report import Figure, Report
from regional.files.loading import load
from regional.files.table import read_rows
from regional.packets.packet import Packet
from regional.releasing.atom import step_of
from registry.likeness.schema import Schema
from tests.regional.attacks import Careful, alone, arrival, auc, conditional_auc, counted, who_left, withdrawal
from tests.regional.persons import Ward, rules

ISSUE: Final = 6
SEQUENCES: Final = int(os.environ.get("KINDRED_SEQUENCES", "34000"))  # of each game
BAR: Final = 0.55
PATIENTS: Final = 600  # in the network, and as many who are not
DRAWS: Final = 3


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
        _there(report)


def _add(report: Report, what: str, gained: float) -> None:
    report.add(Figure(ISSUE, "4", f"attacker's AUC: {what}", gained, "", bar=f"<= {BAR}", holds=gained <= BAR))


def _there(report: Report) -> None:
    """That somebody is in the network: by the counts, and by the centres."""
    games = min(SEQUENCES, 4000)
    for epochs in (1, 2, 3):
        played = [counted(seed, epochs) for seed in range(games)]
        truth, score = (np.array(column) for column in zip(*played, strict=True))
        what = f"that one more has come, by the counts of {epochs} epochs, how many all others are being known"
        report.add(Figure(ISSUE, "4", f"attacker's AUC: {what}", auc(score.astype(float), truth.astype(bool)), ""))
    gained = [_centres(seed) for seed in range(DRAWS)]
    what = (
        f"that a patient is there, by the nearest centre of his action, {PATIENTS} who are and {PATIENTS} who are not"
    )
    report.add(Figure(ISSUE, "4", f"attacker's AUC: {what}, least of {DRAWS} draws", min(gained), ""))
    report.add(Figure(ISSUE, "4", f"attacker's AUC: {what}, greatest", max(gained), ""))


def _centres(seed: int) -> float:
    """The target's features and action are known, and of the others nothing."""
    schema = Schema.from_yaml(ROOT / "examples" / "domains" / "icu.yaml")
    rows = read_rows(ROOT / "examples" / "data" / "rhc_icu.csv.gz", schema)
    patients = load(rows, schema, "icu.medicine", "x", {}).packets
    drawn = np.random.default_rng(seed).permutation(len(patients))[: 2 * PATIENTS].tolist()
    ward = Ward(rules(11, seed.to_bytes(32, "big"), schema.outcomes, step_of(schema)))
    ward.packets = {row: patients[row] for row in drawn[:PATIENTS]}
    ward.publish(now=4e9)
    centres: dict[str, list[npt.NDArray[np.float64]]] = {}
    for each in ward.state.held.values():
        centres.setdefault(each.atom.action, []).append(each.atom.place * ward.rules.step)

    def near(patient: Packet) -> float:
        gaps = np.array(centres[patient.action or ""]) - patient.fingerprint
        return -float((gaps * gaps).sum(axis=1).min())

    score = np.array([near(patients[row]) for row in drawn])
    return auc(score, np.arange(2 * PATIENTS) < PATIENTS)
