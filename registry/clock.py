"""Time, injected: nothing else in Kindred reads a clock.

`now` is seconds since the epoch (dates that others see); `monotonic` is seconds of a clock that never
jumps (deadlines, time to live).
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since 1970-01-01 UTC."""

    def monotonic(self) -> float:
        """Seconds on a clock that only goes forward."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is told to move (tests, simulation)."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Both clocks move on by `seconds`."""
        self._now += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """The wall clock jumps (NTP, an operator); the monotonic clock does not."""
        self._now += seconds
