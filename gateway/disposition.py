"""What became of one network in one question."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Disposition(StrEnum):
    """Exactly one per network and question."""

    ANSWERED = "answered"
    REFUSED = "refused"
    TIMED_OUT = "timed out"
    FAILED = "failed"
    LAPSED = "lapsed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A network's disposition, the reason in words, how long it took (None where it was not asked)."""

    disposition: Disposition
    reason: str | None = None
    ms: float | None = None
