"""What an MQTT front knows is held, how much of it in each bucket, and what a broker may not have saved."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

import cbor2

from regional.engines.backing import rank, seq_of

UNSAVED_S: Final = 60.0  # a broker's autosave_interval must be shorter


class Held(NamedTuple):
    """A node's newest packet, and where it stands."""

    bucket: int
    seq: int
    packet: bytes

    @property
    def rank(self) -> tuple[int, bytes]:
        """What decides between two packets of a node."""
        return rank(self.seq, self.packet)


class Way:
    """A put under way. disturbed: something else was told of the node meanwhile, maybe after it."""

    def __init__(self, packet: bytes) -> None:
        self.packet = packet
        self.disturbed = True  # until it is sent
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Account:
    """held: by node. counts: packets by bucket. changed: set when the counts are others than before.

    left: by node, the buckets where older packets stand that nobody has taken away yet.
    """

    def __init__(self) -> None:
        self.held: dict[bytes, Held] = {}
        self.left: dict[bytes, set[int]] = {}
        self.counts: Counter[int] = Counter()
        self.changed = asyncio.Event()
        self._unsaved: dict[bytes, tuple[float, Held]] = {}  # and when it was learned

    def hold(self, node: bytes, now: Held) -> None:
        """Take what was told, unless it is older than what is held; where the older stands, it is left."""
        held = self.held.get(node)
        if held is None or now.rank > held.rank:
            self.drop(node)
            self.held[node] = now
            self.cleared(node, now.bucket)
            if held is not None and held.bucket != now.bucket:
                self.leave(node, held.bucket)
            self._unsaved[node] = asyncio.get_running_loop().time(), now
            self.counts[now.bucket] += 1
            self.changed.set()

    def drop(self, node: bytes) -> None:
        """It is not held any more."""
        held = self.held.pop(node, None)
        self._unsaved.pop(node, None)
        if held is not None:
            self.counts[held.bucket] -= 1
            self.changed.set()

    def leave(self, node: bytes, bucket: int) -> None:
        """An older packet stands in this bucket."""
        self.left.setdefault(node, set()).add(bucket)

    def cleared(self, node: bytes, bucket: int) -> None:
        """No older packet stands there any more."""
        if node in self.left:
            self.left[node].discard(bucket)
            if not self.left[node]:
                del self.left[node]

    def lost(self, held: Mapping[bytes, Held]) -> dict[bytes, Held]:
        """What was learned lately and is newer than what a broker holds."""
        now = asyncio.get_running_loop().time()
        self._unsaved = {node: (at, each) for node, (at, each) in self._unsaved.items() if now - at < UNSAVED_S}
        recent = ((node, each) for node, (_, each) in self._unsaved.items())
        return {node: each for node, each in recent if node not in held or held[node].rank < each.rank}

    def replace(self, held: dict[bytes, Held]) -> None:
        """Take this for what is held."""
        self.held, self.counts, self.left = held, Counter(each.bucket for each in held.values()), {}
        self.changed.set()


def newest(found: Mapping[tuple[int, bytes], bytes]) -> dict[bytes, Held]:
    """The newest packet of each node, of packets by bucket and node."""
    held: dict[bytes, Held] = {}
    for (bucket, node), packet in found.items():
        each = Held(bucket, seq_of(packet), packet)
        if node not in held or each.rank > held[node].rank:
            held[node] = each
    return held


def read_counts(payload: bytes) -> dict[int, int]:
    """Packets by bucket, as a front counted them; nothing for what is no count."""
    try:
        found = cbor2.loads(payload)
        return {int(bucket): int(n) for bucket, n in found.items()}
    except (cbor2.CBORError, ValueError, TypeError, AttributeError):
        return {}
