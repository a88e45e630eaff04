"""Packets on their way, while more are deposited: who copies does not keep out who deposits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from regional.engine import Census, Change, PutResult, Told, Watch
from regional.packets.packet import Packet
from regional.shares.handover import MAX_WAITING, READ_AHEAD, Handover
from tests.regional.rooms import D, encoded, packet

N = MAX_WAITING + 2 * READ_AHEAD


class Kept:
    """A source that tells all that it keeps at once."""

    async def watch(self, after: int | None = None) -> Watch:  # noqa: ARG002
        packets = encoded(*map(packet, range(N)))
        yield Told([Change(0, each.node, data) for each, data in packets], complete=True)
        await asyncio.Event().wait()


class Slow:
    """A target that puts nothing before it may. asked: set once it is to put something."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.may = asyncio.Event()
        self.held: dict[bytes, int] = {}

    async def put(self, packets: Sequence[tuple[Packet, bytes]]) -> list[PutResult]:
        self.asked.set()
        await self.may.wait()
        self.held |= {each.node: max(each.seq, self.held.get(each.node, 0)) for each, _ in packets}
        return ["accepted"] * len(packets)

    async def remove(self, nodes: Sequence[tuple[bytes, int]]) -> list[bool]:
        return [self.held.pop(node, None) is not None for node, _ in nodes]

    async def get(self, node: bytes) -> bytes | None:  # noqa: ARG002
        return None

    async def census(self) -> Census:
        return Census(np.empty((0, D), dtype=np.float32), [], [])


async def at_once(work: Callable[..., Any], *inputs: Any) -> Any:
    """In the place of a thread: then the source is read as far as it may be before anything else is done."""
    return work(*inputs)


async def test_who_deposits_does_not_wait_for_who_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "to_thread", at_once)
    target = Slow()
    handover = Handover(Kept(), target)
    handover.start()
    await target.asked.wait()
    deposits = [packet(number, 2) for number in range(MAX_WAITING - 2 * READ_AHEAD)]
    async with asyncio.timeout(20):
        for each in deposits:
            await handover.room()
            handover.take(encoded(each))
        target.may.set()
        await handover.complete.wait()
        await handover.arrived()
    assert len(target.held) == N
    assert all(target.held[each.node] == 2 for each in deposits)
    await handover.close()
