"""What keeps a network's packets: one protocol, whatever is behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from regional.packet import Packet
from regional.packetcbor import Fingerprint

MAX_K: Final = 10_000

PutResult = Literal["accepted", "stale"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What an engine can do: most packets returned per arm, most packets held (None: the disk's)."""

    k: int
    packets: int | None


@dataclass(frozen=True, slots=True, eq=False)
class NearestQuery:
    """The k nearest of each action, or of all, among `actions` (None: every one; "" is no action).

    within: only packets at most this far away, per action or for all; an action that is not in the mapping is
    not bounded.
    """

    fingerprint: Fingerprint
    k: int
    per: Literal["action", "all"] = "action"
    actions: tuple[str, ...] | None = None
    within: Mapping[str, float] | float | None = None

    def bound(self, action: str) -> float:
        """The distance up to which packets of `action` count."""
        if isinstance(self.within, Mapping):
            return self.within.get(action, np.inf)
        return np.inf if self.within is None else self.within


@dataclass(frozen=True, slots=True, eq=False)
class NearestResult:
    """packets: their CBOR; distances2: (n,) float64, squared, in the packets' order.

    Within an arm, packets stand in the total order (squared distance, identity digest); arms in the order of
    their names, and `per` "all" is one arm, "". tied: by arm, how many packets of the store lie at exactly the
    arm's last returned distance. truncated: the engine holds more of what was asked for than its limits let it
    return.
    """

    packets: list[bytes]
    distances2: npt.NDArray[np.float64]
    tied: Mapping[str, int]
    truncated: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Census:
    """Every packet that is not withdrawn, at one moment, actions in sorted order.

    fingerprints: (n, d) float32; actions: n names ("" for none); nodes: n.
    """

    fingerprints: npt.NDArray[np.float32]
    actions: list[str]
    nodes: list[bytes]


class Engine(Protocol):
    """Keeps one current packet per node. Reads see only what is durable."""

    @property
    def limits(self) -> Limits:
        """What this engine can do."""

    @property
    def count(self) -> int:
        """Packets held, those of withdrawn nodes not counted."""

    async def open(self) -> None:
        """Load what is held. Raises Unavailable where another process has it, Corrupt where it is broken."""

    async def close(self) -> None:
        """Finish what was begun, and let go."""

    async def put(self, packets: Sequence[tuple[Packet, bytes]]) -> list[PutResult]:
        """Store packets with their CBOR, all or none; durable when this returns.

        A packet replaces the one that is held of its node only by a higher seq, else it is stale.
        Raises StorageFull, with nothing stored, or Unavailable.
        """

    async def get(self, node: bytes) -> bytes | None:
        """The current packet of a node (also a tombstone)."""

    async def nearest(self, query: NearestQuery) -> NearestResult:
        """The nearest packets, exactly."""

    async def census(self) -> Census:
        """A copy of everything that can be found."""

    async def note(self, name: str) -> bytes | None:
        """What `keep_note` stored last under this name."""

    async def keep_note(self, name: str, value: bytes) -> None:
        """Keep a small value of the network's own beside the packets, durably."""
