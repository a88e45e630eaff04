"""Packets for the suite, and what brute force says about them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np

from regional.engine import Engine, NearestQuery
from regional.packets.packet import MAX_TEXT, NO_FINGERPRINT, Packet, identity_digest
from regional.packets.packetcbor import MAX_BYTES
from registry.geometry.region import squared_distances
from tests.engines.kinds import HOME, D

Pair = tuple[Packet, bytes]


def packet(number: int, seq: int = 1, **rest: object) -> Packet:
    """Packet `number`: its place, one of a coarse grid so that there are ties, follows from number and seq."""
    random = np.random.default_rng([number, seq])
    place = random.integers(-4, 5, D).astype(np.float32) if number % 3 else random.normal(size=D).astype(np.float32)
    members: dict[str, object] = {"action": "ab"[number % 2], "outcomes": {"cost": float(number), "broke": None}}
    made = {"fingerprint": place, **members, **rest}
    node = made.pop("node", b"n" + number.to_bytes(4, "big"))
    return Packet(HOME.domain, HOME.space8, HOME.network, node, seq, 1.0, 2.0, **made)  # type: ignore[arg-type]


def tombstone(number: int, seq: int) -> Packet:
    return packet(number, seq, fingerprint=NO_FINGERPRINT, action=None, outcomes={}, tombstone=True)


def pair(made: Packet) -> Pair:
    return made, made.to_cbor()


def largest(number: int) -> Packet:
    """A packet of exactly the size limit."""
    names = [f"o{i:02d}" + "x" * 37 for i in range(18)]
    made = packet(number, outcomes=dict.fromkeys(names, 1.5))
    for i, name in enumerate(names):
        room = MAX_BYTES - len(made.to_cbor())
        names[i] = name + "y" * min(room, MAX_TEXT - len(name))
        made = packet(number, outcomes=dict.fromkeys(names, 1.5))
    return made


@cache
def many(n: int) -> list[Packet]:
    return [packet(number) for number in range(n)]


async def fill(engine: Engine, packets: Iterable[Packet], at_once: int = 2_000) -> None:
    pairs = [pair(each) for each in packets]
    for start in range(0, len(pairs), at_once):
        some = pairs[start : start + at_once]
        assert await engine.put(some) == ["accepted"] * len(some)


def questions(n: int, k: int) -> list[NearestQuery]:
    """On the grid, where there are ties, and beside it."""
    random = np.random.default_rng(7)
    made = []
    for i in range(n):
        point = random.integers(-3, 4, D) if i % 2 else random.normal(size=D)
        within = (None, 4.0, {"a": 3.5})[i % 3]
        per = "all" if i % 4 == 1 and not isinstance(within, dict) else "action"
        actions = (None, ("a",), ("b", "a"))[i % 3]
        made.append(NearestQuery(point.astype(np.float32), k, per, actions, within))  # type: ignore[arg-type]
    return made


def brute_force(packets: Sequence[Packet], query: NearestQuery) -> tuple[list[bytes], list[float]]:
    """What a store of these packets must answer: packets and squared distances, in order."""
    known = [
        each
        for each in packets
        if (not each.tombstone and query.actions in (None, ())) or (each.action or "") in (query.actions or ())
    ]
    arms = sorted({each.action or "" for each in known}) if query.per == "action" else [None]
    found: list[tuple[float, bytes, bytes]] = []
    for arm in arms:
        mine = [each for each in known if arm is None or (each.action or "") == arm]
        points = np.stack([each.fingerprint for each in mine]).astype(np.float64)
        distances2 = squared_distances(points, query.fingerprint.astype(np.float64))
        rows = [
            (float(d2), identity_digest(HOME.network, each.node), each.to_cbor())
            for each, d2 in zip(mine, distances2, strict=True)
            if np.sqrt(d2) <= query.bound(each.action or "")
        ]
        found += sorted(rows)[: query.k]
    return [data for _, _, data in found], [d2 for d2, _, _ in found]
