"""Splits that are killed at every step: `python splitter.py DIRECTORY` prints at how many, once all came to a good end.

As mover.py; the registry is one that takes every coverage.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from regional.advertiser import Advertiser
from regional.engine import NearestQuery
from regional.engines.embedded.engine import EmbeddedEngine
from regional.engines.embedded.writer import Writer
from regional.network import Network
from regional.packets.packet import Packet
from regional.shares.moving import MovableEngine
from regional.shares.splitting import Household
from regional.tabulator import Tabulator
from registry.clock import SystemClock
from registry.http.client import Known, Published
from tests.regional.mover import ends
from tests.regional.rooms import Stepped, killer
from tests.regional.support import KEY, SCHEMA, D
from tests.regional.support import packet as toy

HELD = 80
DEPOSITS = 6


def version(number: int, seq: int) -> Packet:
    """Each version of a node lies elsewhere, many in the other share."""
    return toy(number, seq, point=((number * 37 + seq * 500) % 1000, number % 5))


class AnyRegistry:
    """Takes every coverage."""

    def __init__(self) -> None:
        self.serials: dict[str, int] = {}

    async def put_coverage(self, network: str, document: Mapping[str, Any]) -> Published:
        self.serials[network] = document["serial"]
        return Published(document["serial"], 1000 + sum(self.serials.values()))

    async def put_lease(self, network: str, document: Mapping[str, Any]) -> object:  # noqa: ARG002
        return None

    async def network(self, name: str) -> Known:
        return Known(self.serials.get(name, 0), self.serials.get(name, 0))


class Ground:
    """Shares are stores in directories of their names."""

    clock = SystemClock()
    overlap_s = 0.0

    def __init__(self, home: Path, step: Callable[[], None] | None = None) -> None:
        self._home = home
        self._step = step
        self.writer = Writer()
        self.registry = AnyRegistry()

    def share(self, name: str, place: Mapping[str, Any]) -> tuple[Network, MovableEngine]:
        engine = MovableEngine(place, self)
        return Network(name, "toys", SCHEMA, engine, 1, self.clock, home="one"), engine

    def engine(self, place: Mapping[str, Any]) -> Any:
        engine = EmbeddedEngine("one", D, self._home / str(place["at"]), self.writer)
        return engine if self._step is None else Stepped(engine, self._step, "put" if place["at"] != "one" else "")

    def name(self, place: Mapping[str, Any]) -> str:
        return str(place["at"])

    def beside(self, place: Mapping[str, Any], name: str) -> Mapping[str, Any]:  # noqa: ARG002
        return {"at": name}

    async def advertise(self, network: Network) -> None:
        await Advertiser(network, self.registry, KEY, self.clock, quiet_s=0.01, patience_s=0.05).run()

    async def tabulate(self, network: Network) -> None:
        await Tabulator(network, KEY, self.clock).run()


async def opened(ground: Ground) -> tuple[Household, dict[str, Network]]:
    network, engine = ground.share("one", {"at": "one"})
    served = {"one": network}
    household = Household(network, engine, ground, served)
    await household.open()
    household.start()
    return household, served


async def split(home: Path, at: int) -> None:
    """Deposit, and split; the process ends at step `at`, or when all is done."""
    before = Ground(home)
    household, served = await opened(before)
    await served["one"].deposit([(number, version(number, 1)) for number in range(HELD)])
    await household.close()
    before.writer.close()
    ground = Ground(home, killer(at))
    household, served = await opened(ground)
    await household.split(2)
    acknowledged = os.open(home / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    number = 0
    while household.busy or number < DEPOSITS:
        await asyncio.sleep(0.002)
        number += 1
        if number > 50 * DEPOSITS or number % 50 > 2:
            continue
        for made in (version(HELD + number, 1), version(number % 40, 1 + number)):
            report = await served["one"].deposit([(1, made)])
            if report.accepted:
                os.write(acknowledged, f"{int.from_bytes(made.node, 'big')} {made.seq}\n".encode())
    await household.close()
    ground.writer.close()


async def go_on(home: Path) -> None:
    """Start anew; give the command again."""
    ground = Ground(home)
    household, served = await opened(ground)
    await everything(served, home, once=False)
    await household.split(2)
    while household.busy:
        await everything(served, home, once=False)
        await asyncio.sleep(0.01)
    assert household.state()["step"] == "parted"
    assert household.state()["trouble"] is None
    await everything(served, home, once=True)
    for made in (version(7, 5000), version(7, 5001), version(7, 5002)):
        assert (await served["one"].deposit([(1, made)])).accepted == 1
        assert (await served["one"].deposit([(1, made)])).stale == 1
        assert (await served["one"].get(made.node)).seq == made.seq
        await everything(served, home, once=True)
    await served["one"].withdraw(version(8, 1).node)
    assert (await served["one"].deposit([(1, version(8, 1))])).stale == 1
    await household.close()
    ground.writer.close()


async def everything(served: Mapping[str, Network], home: Path, once: bool) -> None:
    """What was acknowledged is held, in that version or a later one; once: nothing is held in two places."""
    wanted = dict.fromkeys(range(HELD), 1)
    noted = home / "acknowledged"
    for line in noted.read_text().splitlines() if noted.exists() else ():
        number, seq = map(int, line.split())
        wanted[number] = max(seq, wanted.get(number, 0))
    held: dict[int, int] = {}
    total = 0
    for network in dict(served).values():
        result = await network.nearest(NearestQuery(np.zeros(D, dtype=np.float32), 10_000, "all"))
        total += len(result.packets)
        for packet in map(Packet.from_cbor, result.packets):
            number = int.from_bytes(packet.node, "big")
            held[number] = max(packet.seq, held.get(number, 0))
    missing = {number: seq for number, seq in wanted.items() if held.get(number, 0) < seq}
    assert not missing, missing
    assert len(held) <= len(wanted) + 1  # one deposit may have been under way
    assert not once or total == len(held)
    assert not once or len(served) == 2


def main() -> None:
    at = 0
    ended = signal.SIGKILL
    while ended:
        at += 1
        home = Path(sys.argv[1]) / str(at)
        home.mkdir()
        ended = ends(lambda home=home, at=at: split(home, at))  # type: ignore[misc]
        ends(lambda home=home: go_on(home))  # type: ignore[misc]
    sys.stdout.write(f"{at - 1}\n")


if __name__ == "__main__":
    main()
