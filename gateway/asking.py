"""What a question means once its domain's schema has had its say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from gateway.question import Question
from regional.client import NearestRequest
from registry.errors import QuestionError
from registry.geometry.cell import Naming
from registry.geometry.region import Vector
from registry.likeness.fingerprint import check_space, encode, from_wire
from registry.likeness.schema import Schema


@dataclass(frozen=True, slots=True, eq=False)
class Asking:
    """One question as the schema understands it: fingerprint (d,), arms, and the names chosen."""

    question: Question
    schema: Schema
    naming: Naming
    fingerprint: npt.NDArray[np.float32]
    arms: tuple[str, ...]
    actions: tuple[str, ...] | None
    outcomes: tuple[str, ...]

    @property
    def query(self) -> Vector:
        return self.fingerprint.astype(np.float64)

    @property
    def per(self) -> Literal["action", "all"]:
        """Whether the arms are actions, or one for all."""
        return "action" if self.arms != ("",) else "all"

    def request(self, network: str, within: Mapping[str, float]) -> NearestRequest:
        """What one network is asked. network: its name in the answer, its DNS name where it is of another registry."""
        return NearestRequest(
            domain=self.question.domain,
            network=self.naming.owner(network)[1],
            space=self.schema.space,
            fingerprint=self.fingerprint,
            k=self.question.k,
            per=self.per,
            actions=self.actions,
            within=(within.get("") if self.per == "all" else within) or None,
        )

    def opinion(self, network: str) -> NearestRequest:
        """What one network is asked for by itself: its own K nearest of each action."""
        return replace(self.request(network, {}), per="action")


def understand(question: Question, schema: Schema, naming: Naming) -> Asking:
    """Encode the situation or check the fingerprint; check the names of actions and outcomes.

    Raises SituationError, FingerprintError, Conflict (another space), QuestionError.
    """
    if question.situation is not None:
        fingerprint = encode(schema, question.situation)
    else:
        check_space(schema, str(question.space))
        fingerprint = from_wire(question.fingerprint or [], schema.dimension)
    actions = _choose("actions", question.actions, schema.actions)
    outcomes = _choose("outcomes", question.outcomes, tuple(schema.outcomes)) or tuple(schema.outcomes)
    per_action = question.per == "action" and bool(schema.actions)
    arms = (actions or schema.actions) if per_action else ("",)
    return Asking(question, schema, naming, fingerprint, arms, actions, outcomes)


def _choose(path: str, chosen: Sequence[str] | None, known: Sequence[str]) -> tuple[str, ...] | None:
    for name in chosen or ():
        if name not in known:
            raise QuestionError(f"{path}: {name!r:.80} is not in the schema; known are {', '.join(known)}", path=path)
    if chosen is not None and not chosen:
        raise QuestionError(f"{path}: choose at least one, or leave it out for all", path=path)
    return tuple(dict.fromkeys(chosen)) if chosen is not None else None
