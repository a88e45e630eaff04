"""What a network holds at one moment, described: its regions, and what lies in none of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from regional.clustering import regions_of
from regional.covering import Covering
from regional.engine import Census
from regional.packet import Packet
from registry.coverage import Coverage
from registry.region import Region

_THREAD_ABOVE: Final = 256  # packets; more at a time would hold up the event loop

Points = npt.NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """Regions over the packets held at one moment. uncovered: nodes that lie in none that counts their action.

    wish: how many wishes for a new coverage it fulfils.
    """

    regions: tuple[Region, ...]
    packets: int
    uncovered: frozenset[bytes]
    wish: int = 0


async def aside(amount: int, work: Callable[..., T], *inputs: object) -> T:
    """What `work` makes of the inputs; in a thread where there is so much that others would wait for it."""
    return work(*inputs) if amount <= _THREAD_ABOVE else await asyncio.to_thread(work, *inputs)


async def inside_of(covering: Covering, packets: Sequence[Packet]) -> list[bool]:
    """Which packets are covered; a tombstone never is."""

    def find() -> list[bool]:
        inside = np.zeros(len(packets), dtype=np.bool_)
        rows = [row for row, packet in enumerate(packets) if not packet.tombstone]
        if rows:
            points = np.stack([packets[row].fingerprint for row in rows])
            inside[rows] = covering.covers(points, [packets[row].action or "" for row in rows])
        return inside.tolist()

    return await aside(len(packets), find)


def only(census: Census, chosen: npt.NDArray[np.bool_]) -> Census:
    rows = np.flatnonzero(chosen)
    listed = rows.tolist()
    actions, nodes = census.actions, census.nodes
    return Census(census.fingerprints[rows], [actions[row] for row in listed], [nodes[row] for row in listed])


def describe(census: Census, min_cohort: int, last: Coverage | None) -> Survey:
    """Regions over the census; those of `last`, from before a restart, where they still fit."""
    points, actions = census.fingerprints, census.actions
    if last is not None and last.packets == len(points):
        survey = _survey(last.regions, census)
        if len(survey.uncovered) == last.uncovered:
            return survey
    regions, _ = regions_of(points, actions, min_cohort)
    return _survey(regions, census)


def _survey(regions: Sequence[Region], census: Census) -> Survey:
    covered = Covering(regions).covers(census.fingerprints, census.actions).tolist()
    lonely = frozenset(node for node, inside in zip(census.nodes, covered, strict=True) if not inside)
    return Survey(tuple(regions), len(census.nodes), lonely)
