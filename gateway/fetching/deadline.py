"""One budget of time per question; every attempt gets what is left of the whole."""

from __future__ import annotations

from registry.clock import Clock

SOFT_SHARE = 0.4  # after this share of the budget, slow networks are no longer waited for before asking others
FINISHING_SHARE = 0.05  # and this share is left at the end, in which to merge, certify and synthesise


class Deadline:
    """`seconds` from now on a clock that never jumps; the answer is to be there by then."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._start = clock.monotonic()
        self.seconds = seconds

    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock.monotonic() - self._start

    def remaining(self) -> float:
        """Seconds left for lookups and networks, never negative."""
        return max(0.0, (1.0 - FINISHING_SHARE) * self.seconds - self.elapsed())

    def until_soft(self) -> float:
        """Seconds left until the soft deadline, never negative."""
        return max(0.0, SOFT_SHARE * self.seconds - self.elapsed())

    @property
    def soft(self) -> bool:
        """Whether the soft deadline has passed."""
        return self.until_soft() == 0.0
