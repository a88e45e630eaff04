"""The answer document (PROTOCOL, "Ask") and its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.certificate import Certificate
from gateway.disposition import Outcome
from gateway.planning.candidates import Candidate, Candidates
from gateway.planning.neighbours import OutcomeValue
from regional.cohort import Figures
from regional.packets.packet import node_text
from regional.releasing.atombatch import AtomFound

VERSION = 1


@dataclass(frozen=True, slots=True)
class Asked:
    """One network in an answer: what became of it, how many of the neighbours it gave."""

    name: str
    outcome: Outcome
    contributed: int

    def document(self) -> dict[str, object]:
        return {
            "name": self.name,
            "disposition": self.outcome.disposition.value,
            "ms": self.outcome.ms,
            "contributed": self.contributed,
            "reason": self.outcome.reason,
        }


@dataclass(frozen=True, slots=True)
class WalkReport:
    """How the question found its networks: the generation walked, cells opened, lookups that left the cache."""

    generation: int
    cells: int
    lookups: int
    networks_met: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything that a question brought; `document` is its JSON form. Unknown is null, never NaN.

    expected_recall: the share of the true neighbours that is expected to be among those found; an estimate, where
    the certificate is a proof.
    """

    domain: str
    space: str
    schema: str
    study: str
    notice: str
    k: int
    per: str
    mode: object
    expected_recall: float | None
    neighbours: Candidates
    show_neighbours: bool
    tied_at_k: int
    certificate: Certificate
    networks: Sequence[Asked]
    walk: WalkReport
    synthesis: Mapping[str, object]
    balance: Sequence[Mapping[str, object]] = field(default_factory=tuple)
    warnings: Sequence[Mapping[str, str]] = field(default_factory=tuple)

    @property
    def found(self) -> int:
        """Nodes found, all arms together."""
        return int(self.neighbours.sizes().sum())

    def document(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "v": VERSION,
            "domain": self.domain,
            "space": self.space,
            "schema": self.schema,
            "study": self.study,
            "notice": self.notice,
            "k": self.k,
            "per": self.per,
            "mode": self.mode,
            "expected_recall": self.expected_recall,
            "found": self.found,
            "tied_at_k": self.tied_at_k,
            "certificate": self.certificate.document(),
            "networks": [each.document() for each in self.networks],
            "walk": {
                "generation": self.walk.generation,
                "cells": self.walk.cells,
                "lookups": self.walk.lookups,
                "networks_met": self.walk.networks_met,
            },
            "synthesis": dict(self.synthesis),
            "balance": list(self.balance),
            "neighbours": [_neighbour(each) for each in self.neighbours] if self.show_neighbours else None,
            "warnings": list(self.warnings),
        }


def _neighbour(candidate: Candidate) -> dict[str, object]:
    """A packet or an atom: of an atom `node` is its id, and its outcomes are figures."""
    found = candidate.packet
    return {
        "network": candidate.network,
        "node": node_text(found.node),
        "size": found.size if isinstance(found, AtomFound) else 1,
        "distance": candidate.distance2**0.5,
        "action": found.action,
        "t0": None if isinstance(found, AtomFound) else found.t0,
        "outcomes": {name: _outcome(value) for name, value in found.outcomes.items()},
        "weight": found.weight,
    }


def _outcome(value: OutcomeValue) -> object:
    if isinstance(value, Figures):
        return value._asdict()
    return list(value) if isinstance(value, tuple) else value
