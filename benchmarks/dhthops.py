"""How many hops a lookup takes: as libtorrent logs its own, and simulated over as many nodes as nobody can start.

A hop is one node asked because the one before it told of it; those that the asker knows itself are the first. Counted
is the way to the node nearest to the target.

The simulation: identifiers are independent and uniform. A node knows, for each length of prefix that it shares with
others, 8 of them at random (all where there are no more), and replies with the 8 nearest to the target that it knows.
The asker asks 5 at a time (libtorrent's `dht_search_branching`), nearest first, until the 8 nearest have replied.
Nodes are all there, and tables are full and fresh: a network in use does a little worse. Up to a million nodes all
identifiers are drawn. Beyond, only those around the target are, Poisson-many of them; whoever is further off is drawn
when somebody tells of him, which is the same in distribution.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import libtorrent
import numpy as np

from regional.engines.dht.node import settings
from tests.engines.dht_ring import DhtRing

K: Final = 8
AT_ONCE: Final = 5
BITS: Final = 62
AROUND: Final = 256  # identifiers drawn around a target, on average

_EVENT: Final = re.compile(r"\[(\d+)\] (NEW target:|ADD id:|RESPONSE id:|INVOKE) (?:.*? id: )?([0-9a-f]{40})")


def measured(home: Path, nodes: int, lookups: int, askers: int = 4) -> tuple[list[int], float]:
    """The hops of lookups of random targets in a DHT of libtorrent nodes, and the nodes asked in each on average."""
    ring = DhtRing(home, nodes)
    ring.start()
    hops: list[int] = []
    asked = 0
    try:
        for _ in range(askers):
            session = libtorrent.session(settings("127.0.0.1:0", guest=True))
            for host, port in random.sample([("127.0.0.1", port) for port in ring.ports], K):
                session.add_dht_node((host, port))
            time.sleep(0.5)
            session.apply_settings({"alert_mask": libtorrent.alert.category_t.dht_log_notification})
            session.pop_alerts()
            for _ in range(lookups // askers):
                target = random.randbytes(20)
                session.dht_get_immutable_item(libtorrent.sha1_hash(target))
                lines: list[str] = []
                while not any("COMPLETED" in line for line in _of(target, lines)):
                    session.wait_for_alert(1000)
                    lines += [alert.message() for alert in session.pop_alerts()]
                found, n = _hops(_of(target, lines))
                hops.append(found)
                asked += n
    finally:
        ring.kill()
    return hops, asked / len(hops)


def _of(target: bytes, lines: Sequence[str]) -> list[str]:
    """The lines that are of the lookup of this target."""
    number = next((line.split("]")[0] for line in lines if f"NEW target: {target.hex()}" in line), None)
    return [line for line in lines if number is not None and line.startswith(f"{number}]")]


def _hops(lines: Sequence[str]) -> tuple[int, int]:
    """The depth of the nearest node that replied, and how many were asked, from libtorrent's log of a lookup."""
    depth: dict[str, int] = {}
    replied: set[str] = set()
    target, asked, level = 0, 0, 1
    for line in lines:
        match = _EVENT.search(line)
        if match is None:
            continue
        _, what, name = match.groups()
        if what == "NEW target:":
            target = int(name, 16)
        elif what == "ADD id:":
            depth.setdefault(name, level)
        elif what == "INVOKE":
            asked += 1
        elif what == "RESPONSE id:":
            level = depth[name] + 1
            replied.add(name)
    return depth[min(replied, key=lambda name: int(name, 16) ^ target)], asked


def simulated(n: int, lookups: int, seed: int = 20261122) -> list[int]:
    """The hops of lookups among n nodes."""
    chance = random.Random(seed)
    everyone = np.array(sorted(chance.sample(range(1 << BITS), n)), np.int64) if n <= 1_000_000 else None
    return [_World(n, chance, everyone).lookup() for _ in range(lookups)]


class _World:
    """The nodes as one lookup meets them. everyone: all identifiers, sorted; None to draw those that matter."""

    def __init__(self, n: int, chance: random.Random, everyone: Any) -> None:
        self._chance = chance
        self._target = chance.getrandbits(BITS)
        self._drawn = 0  # bits of the prefix under which all identifiers are drawn
        if everyone is None:
            self._drawn = int(np.log2(n / AROUND))
            room = BITS - self._drawn
            count = int(np.random.default_rng(chance.getrandbits(60)).poisson(n / 2**self._drawn))
            base = self._target >> room << room
            everyone = np.array(sorted(base | chance.getrandbits(room) for _ in range(count)), np.int64)
        self._everyone = everyone

    def lookup(self) -> int:
        """From a random node, and how deep the nearest one is found."""
        start = self._chance.getrandbits(BITS)
        if not self._drawn:
            start = int(self._everyone[self._chance.randrange(len(self._everyone))])
        depth = dict.fromkeys(self._told(start), 1)
        asked: set[int] = set()
        while True:
            nearest = sorted(depth, key=lambda node: node ^ self._target)[:K]
            waiting = [node for node in nearest if node not in asked][:AT_ONCE]
            if not waiting:
                return depth[nearest[0]]
            for node in waiting:
                asked.add(node)
                for told in self._told(node):
                    depth.setdefault(told, depth[node] + 1)

    def _told(self, node: int) -> list[int]:
        """The K nearest to the target that a node knows: those who share one bit more with it, then the others."""
        shared = BITS - (node ^ self._target).bit_length()
        found: list[int] = []
        while len(found) < K and shared >= self._drawn - 1 and shared >= 0:
            part = self._some(shared + 1, beside=bool(found))
            found += self._chance.sample(part, min(K - len(found), len(part)))
            shared -= 1
        if not found:
            room = BITS - shared - 1
            base = self._target >> room << room
            found = [base | self._chance.getrandbits(room) for _ in range(K)]
        return [each for each in found if each != node]

    def _some(self, bits: int, beside: bool) -> list[int]:
        """K of those who share so many bits with the target, or all but the last of them."""
        room = max(BITS - bits, 0)
        base = (self._target >> room ^ beside) << room
        first, last = np.searchsorted(self._everyone, [base, base + (1 << room)]).tolist()
        rows = self._chance.sample(range(first, last), min(K, last - first))
        return [int(self._everyone[row]) for row in rows]
