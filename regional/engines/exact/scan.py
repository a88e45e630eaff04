"""Exact nearest packets by a scan in memory: an arm for each action (regional/engines/exact/arm.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from regional.engine import Census, NearestQuery, NearestResult
from regional.engines.exact.arm import Arm, Float64s, Found, total_order
from regional.engines.exact.coarse import Coarse, Points
from regional.packets.packet import identity_digest
from regional.packets.packetcbor import FLOAT32


class Entry(NamedTuple):
    """What the scan keeps of a packet. action: "" for none; axes: little-endian float32, empty: a tombstone's."""

    node: bytes
    action: str
    axes: bytes
    packet: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Gathering:
    """The points of an arm at one moment, to be gathered into blocks."""

    arm: Arm
    points: Points

    def work(self, stopped: Callable[[], bool]) -> Coarse:
        """What `Scan.adopt` takes; long, and meanwhile the scan may change."""
        return Coarse.gathered(self.points, stopped)


class Scan:
    """All packets of a network by action, each findable. Not safe for threads: the engine holds a lock."""

    def __init__(self, network: str, d: int) -> None:
        self._network = network
        self._d = d
        self._arms: dict[str, Arm] = {}
        self._rows: dict[bytes, tuple[str, int]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, entries: Iterable[Entry]) -> None:
        """Make each the packet of its node; of one node's, the last."""
        new: dict[str, list[Entry]] = {}
        renewed: dict[str, list[Entry]] = {}
        for entry in {entry.node: entry for entry in entries}.values():
            held = self._rows.get(entry.node)
            if not entry.axes:
                self._remove(entry.node)
            elif held is not None and held[0] == entry.action:
                renewed.setdefault(entry.action, []).append(entry)
            else:
                self._remove(entry.node)
                new.setdefault(entry.action, []).append(entry)
        for action, some in renewed.items():
            rows = np.array([self._rows[entry.node][1] for entry in some])
            self._arms[action].overwrite(rows, self._points(some), [entry.packet for entry in some])
        for action, some in new.items():
            arm = self._arms.get(action)
            if arm is None:
                arm = self._arms[action] = Arm(self._d)
            nodes = [entry.node for entry in some]
            digests = b"".join([identity_digest(self._network, node) for node in nodes])
            first = arm.extend(nodes, digests, self._points(some), [entry.packet for entry in some])
            self._rows.update((node, (action, row)) for row, node in enumerate(nodes, first))

    def nearest(self, query: NearestQuery) -> NearestResult:
        """The nearest packets, exactly (see NearestResult)."""
        exact = query.fingerprint.astype(np.float64)
        names = sorted(self._arms if query.actions is None else set(self._arms) & set(query.actions))
        if query.per == "all":
            return self._nearest_of_all(exact, query, names)
        found = [self._arms[name].nearest(exact, query.k, query.bound(name), np.inf) for name in names]
        packets: list[bytes] = []
        for name, each in zip(names, found, strict=True):
            held = self._arms[name].packets
            packets += [held[row] for row in each.rows.tolist()]
        distances2 = np.concatenate([np.empty(0), *(each.distances2 for each in found)])
        return NearestResult(packets, distances2, {n: f.tied for n, f in zip(names, found, strict=True)})

    def _nearest_of_all(self, exact: Float64s, query: NearestQuery, names: list[str]) -> NearestResult:
        """The nearest whatever their action. An arm is asked only for what can be among them, large arms first."""
        names.sort(key=lambda name: -self._arms[name].size)
        found: list[Found] = []
        distances2 = np.empty(0)
        limit2 = np.inf
        for name in names:
            found.append(self._arms[name].nearest(exact, query.k, query.bound(name), limit2))
            distances2 = np.concatenate((distances2, found[-1].distances2))
            if len(distances2) >= query.k:
                limit2 = float(np.partition(distances2, query.k - 1)[query.k - 1])
        if not len(distances2):
            return NearestResult([], distances2, {"": 0})
        arms = np.repeat(np.arange(len(names)), [len(each.rows) for each in found])
        rows = np.concatenate([each.rows for each in found])
        near = np.flatnonzero(distances2 <= limit2)
        arms, rows, distances2 = arms[near], rows[near], distances2[near]
        held = [self._arms[name] for name in names]
        digests = np.empty((len(near), 4), dtype=np.uint64)
        for number, arm in enumerate(held):
            digests[arms == number] = arm.digests(rows[arms == number])
        order = total_order(distances2, lambda which: digests[which])[: query.k]
        packets = [held[arm].packets[row] for arm, row in zip(arms[order].tolist(), rows[order].tolist(), strict=True)]
        last = distances2[order[-1]]
        return NearestResult(packets, distances2[order], {"": sum(_tied_at(each, last) for each in found)})

    def census(self) -> Census:
        """A copy of all fingerprints, actions and nodes."""
        names = sorted(self._arms)
        points = [self._arms[name].points for name in names]
        return Census(
            np.concatenate([np.empty((0, self._d), dtype=np.float32), *points]),
            [name for name in names for _ in range(self._arms[name].size)],
            [node for name in names for node in self._arms[name].nodes],
        )

    def scattered(self) -> bool:
        """Whether there is an arm to `gather`."""
        return any(arm.scattered() for arm in self._arms.values())

    def gather(self) -> Gathering | None:
        """An arm whose points are worth gathering into blocks; do its work, and `adopt` it."""
        for arm in self._arms.values():
            if arm.scattered():
                return Gathering(arm, arm.gather())
        return None

    def adopt(self, gathering: Gathering, coarse: Coarse) -> None:
        """Take the blocks that were made of the gathering."""
        gathering.arm.adopt(coarse, len(gathering.points))

    def _remove(self, node: bytes) -> None:
        held = self._rows.pop(node, None)
        if held is None:
            return
        action, row = held
        moved = self._arms[action].remove(row)
        if moved is not None:
            self._rows[moved] = action, row
        if not self._arms[action].size:
            del self._arms[action]

    def _points(self, entries: list[Entry]) -> Points:
        """(len(entries), d) float32."""
        joined = np.frombuffer(b"".join([entry.axes for entry in entries]), dtype=FLOAT32)
        return joined.astype(np.float32, copy=False).reshape(-1, self._d)


def _tied_at(found: Found, last: float) -> int:
    """How many packets of the arm lie at the squared distance `last`, which is its own last or nearer."""
    if len(found.rows) and found.distances2[-1] == last:
        return found.tied
    return int(np.count_nonzero(found.distances2 == last))
