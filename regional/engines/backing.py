"""What a front (regional/engines/front.py) needs of the server that keeps its packets."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import cbor2

from regional.engine import Limits, PutResult, Watch
from regional.packets.packet import Packet

NEVER: Final = -1  # the seq of a node that is not held
PATIENCE_S: Final = 10.0  # how long a server may take; a cluster elects a new leader within 5
SILENCE_S: Final = 3.0  # a watch that hears nothing, not even that there is nothing, is lost


class Placed(NamedTuple):
    """A packet on its way to where it is kept. bucket: None for where the node is held already, else 0."""

    bucket: int | None
    node: bytes
    seq: int
    packet: bytes


class Watched(Protocol):
    """Packets on a server that tells of each change."""

    @property
    def where(self) -> str:
        """The server and what of it, for messages; no credentials."""

    def watch(self, after: int | None = None) -> Watch:
        """As `Engine.watch`; what is told as a packet may be anything."""


class Readable(Watched, Protocol):
    """Packets on a server as those see them who may only read. Errors are those of `regional.engine.Engine`."""

    async def open(self) -> None:
        """Connect, and see that the server can do what is needed."""

    async def close(self) -> None:
        """Let go."""

    def settle(self, version: int) -> None:
        """Packets are kept by this version of the partition; called once, after `open`."""

    async def note(self, name: str) -> bytes | None:
        """As `Engine.note`."""

    async def mark(self) -> int:
        """A position by which a watch has told all that was acknowledged, by whomever, before this was called."""


class Backing(Watched, Protocol):
    """Packets on a server that other fronts read and write too. Errors are those of `regional.engine.Engine`."""

    @property
    def limits(self) -> Limits:
        """What the engine can do."""

    async def open(self) -> None:
        """Connect, see that the server can do what is needed, make what is missing."""

    async def close(self) -> None:
        """Let go."""

    def settle(self, version: int) -> None:
        """Packets are kept by this version of the partition from now on; called once, after `open`."""

    async def put(self, packets: Sequence[Placed]) -> list[int]:
        """Store packets, no node twice, each if its seq is above what is held; the seqs that were held, or NEVER."""

    async def remove(self, nodes: Sequence[tuple[bytes, int]]) -> list[bool]:
        """As `Engine.remove`."""

    async def get(self, node: bytes) -> bytes | None:
        """As `Engine.get`, and not older than anything that any front has acknowledged."""

    async def history(self, node: bytes) -> list[bytes]:
        """As `Engine.history`."""

    async def bucket(self, number: int) -> list[bytes]:
        """All that is kept in a bucket, whatever it is."""

    async def note(self, name: str) -> bytes | None:
        """As `Engine.note`."""

    async def keep_note(self, name: str, value: bytes) -> None:
        """As `Engine.keep_note`."""

    async def claim_note(self, name: str, value: bytes) -> bytes:
        """Keep a note unless there is one of this name; the one that is kept now."""


def seq_of(data: bytes) -> int:
    """The seq of a packet; NEVER of what is none, so that every packet replaces it."""
    try:
        seq = cbor2.loads(data)[5]
    except (cbor2.CBORError, ValueError, OverflowError, RecursionError, TypeError, LookupError):
        return NEVER
    return seq if type(seq) is int else NEVER


def rank(seq: int, data: bytes) -> tuple[int, bytes]:
    """Of a node the packet of the highest rank counts; so two of one seq are ordered alike wherever they are seen."""
    return seq, hashlib.blake2b(data, digest_size=8).digest()


def newest_of(packets: Sequence[tuple[Packet, bytes]]) -> dict[bytes, tuple[Packet, bytes]]:
    """Of each node the packet of the highest seq; of equal ones, the first."""
    newest: dict[bytes, tuple[Packet, bytes]] = {}
    for packet, data in packets:
        if packet.node not in newest or packet.seq > newest[packet.node][0].seq:
            newest[packet.node] = packet, data
    return newest


def results_of(packets: Sequence[tuple[Packet, bytes]], held: Mapping[bytes, int]) -> list[PutResult]:
    """What became of packets, stored in their order where these seqs, or NEVER, were held before."""
    now = dict(held)
    results: list[PutResult] = []
    for packet, _ in packets:
        results.append("accepted" if packet.seq > now[packet.node] else "stale")
        now[packet.node] = max(now[packet.node], packet.seq)
    return results


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task until it ends: a library may lose a cancellation that comes while it closes a connection."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.2)
    if not task.cancelled():
        task.exception()  # nobody waits for it any more
