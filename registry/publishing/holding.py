"""What the registry holds of a network."""

from __future__ import annotations

from dataclasses import dataclass

from registry.clock import Clock
from registry.publishing.coverage import Coverage


@dataclass(frozen=True, slots=True, eq=False)
class Holding:
    """A network's accepted coverage and the lease it runs under.

    issued, lease_s: of the newest signed document, coverage or renewal. until: seconds since the epoch;
    until_monotonic: the same on the clock that never jumps. vouched: signed by the key enrolled now.
    sig, renewal_sig: of those documents, to know a repetition.
    """

    coverage: Coverage
    sig: str
    issued: float
    lease_s: float
    until: float
    until_monotonic: float
    renewal_sig: str | None = None
    vouched: bool = True

    def lapsed(self, clock: Clock) -> bool:
        """Whether the lease is over, by either clock; so a wall clock that is set back prolongs nothing."""
        return self.lapsed_at(clock.now(), clock.monotonic())

    def lapsed_at(self, now: float, monotonic: float) -> bool:
        """The same at these times, in seconds."""
        return not self.vouched or now >= self.until or monotonic >= self.until_monotonic
