"""What became of a batch of packets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Rejection:
    """One packet that was not taken. line: its place in the batch, from 1; path: the member at fault."""

    line: int
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class DepositReport:
    """What became of a batch; what is counted as accepted is on disk.

    accepted: stored, each the newest of its node. stale: not newer than what is held. covered: how many of the
    accepted lie in a region that the network has published and that counts their action. serial: of the
    coverage that was published then, 0 for none.
    """

    accepted: int
    stale: int
    rejected: tuple[Rejection, ...] = field(default=())
    covered: int = 0
    serial: int = 0

    def to_json(self) -> dict[str, Any]:
        """The reply of `POST /v1/packets`."""
        return {
            "accepted": self.accepted,
            "stale": self.stale,
            "rejected": [{"line": each.line, "path": each.path, "reason": each.reason} for each in self.rejected],
            "covered": self.covered,
            "serial": self.serial,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> DepositReport:
        """The inverse of `to_json`. Raises KeyError or TypeError on another shape."""
        rejected = tuple(Rejection(int(r["line"]), str(r["path"]), str(r["reason"])) for r in document["rejected"])
        accepted, stale, covered, serial = (int(document[n]) for n in ("accepted", "stale", "covered", "serial"))
        return cls(accepted, stale, rejected, covered, serial)
