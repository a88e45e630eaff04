"""What keeps a network's packets: one protocol, whatever is behind it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from regional.packets.packet import Packet
from regional.packets.packetcbor import Fingerprint
from regional.partition import Partition

MAX_K: Final = 10_000

PutResult = Literal["accepted", "stale"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What an engine can do.

    k: most packets returned per arm. packets: most packets held (None: the disk's). atomic: of how many packets at
    most one `put` stores all or none; of more, what comes before a failure may be stored, unacknowledged. history:
    how many packets of one node are kept, the current one counted.
    """

    k: int
    packets: int | None
    atomic: int
    history: int = 1


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


class Change(NamedTuple):
    """One node's packet as it is now, in its bucket; None: it is not kept there any more."""

    bucket: int
    node: bytes
    packet: bytes | None


@dataclass(frozen=True, slots=True)
class Told:
    """What a watch tells: changes in their order, of one node never an older one after a newer.

    complete: all that was kept when the watch began has been told by now. afresh: the watch begins with all that is
    kept, whatever was told before. position: from where a later watch can go on, None where it cannot.
    """

    changes: Sequence[Change]
    complete: bool
    afresh: bool = False
    position: int | None = None


Watch = AsyncGenerator[Told, None]


class Engine(Protocol):
    """Keeps one current packet per node, in buckets of a partition. Reads see only what is durable."""

    @property
    def limits(self) -> Limits:
        """What this engine can do."""

    @property
    def partition(self) -> Partition:
        """How the packets are parted into buckets."""

    @property
    def count(self) -> int:
        """Packets held, those of withdrawn nodes not counted."""

    async def open(self) -> None:
        """Load what is held. Raises Unavailable where it is out of reach, Corrupt where it is broken.

        Also NotGranted for wrong credentials, ConfigError for a server that cannot do this.
        """

    async def close(self) -> None:
        """Finish what was begun, and let go."""

    async def put(self, packets: Sequence[tuple[Packet, bytes]]) -> list[PutResult]:
        """Store packets with their CBOR; durable, as far as the engine's guide promises, when this returns.

        A packet replaces the one that is held of its node only by a higher seq, else it is stale.
        Raises StorageFull or Unavailable, with nothing acknowledged; up to `limits.atomic` packets, nothing stored.
        """

    async def remove(self, nodes: Sequence[tuple[bytes, int]]) -> list[bool]:
        """Forget the packets of nodes, each unless it is of a higher seq than named; which there were to forget.

        For what is kept elsewhere now: a withdrawn node needs its tombstone.
        """

    async def get(self, node: bytes) -> bytes | None:
        """The current packet of a node (also a tombstone)."""

    async def history(self, node: bytes) -> list[bytes]:
        """The packets of a node that are kept, the current one first; `limits.history` at most."""

    async def bucket(self, number: int) -> list[bytes]:
        """All packets in a bucket, those of withdrawn nodes left out. Raises Unavailable rather than tell a part."""

    async def nearest(self, query: NearestQuery) -> NearestResult:
        """The nearest packets, exactly. Raises Unavailable where it cannot be known that none is missing."""

    async def census(self) -> Census:
        """A copy of everything that can be found."""

    def watch(self, after: int | None = None) -> Watch:
        """All that is kept, tombstones too, then each change as it comes, until it is closed.

        after: a position that an earlier watch told; what has changed since, where the engine can tell that.
        Raises Unavailable when it can tell no more.
        """

    async def note(self, name: str) -> bytes | None:
        """What `keep_note` stored last under this name."""

    async def keep_note(self, name: str, value: bytes) -> None:
        """Keep a small value of the network's own beside the packets, durably."""
