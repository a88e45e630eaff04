"""Moves that are killed at every step: `python mover.py DIRECTORY` prints at how many, once all came to a good end.

Each move is a process of its own, which goes on depositing; what was acknowledged it has written down. Another process
then starts where the first began, as an operator would, lets it go on, and looks whether all is there once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from regional.engine import NearestQuery
from regional.engines.embedded.writer import Writer
from regional.shares.moving import MovableEngine
from registry.errors import Conflict
from tests.regional.rooms import Rooms, encoded, killer, packet

HELD = 300  # packets before the move; more than go at once
DEPOSITS = 4  # while it is under way, twice as many
OLD, NEW = {"at": "old"}, {"at": "new"}


async def move(home: Path, at: int) -> None:
    """Deposit, and move; the process ends at step `at`, or when the move is done."""
    writer = Writer()
    before = MovableEngine(OLD, Rooms(home, writer))
    await before.open()
    await before.put(encoded(*map(packet, range(HELD))))
    await before.close()
    engine = MovableEngine(OLD, Rooms(home, writer, killer(at)))
    await engine.open()
    await engine.move(NEW)
    acknowledged = os.open(home / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    number = 0
    while engine.busy or number < DEPOSITS:
        await asyncio.sleep(0.001)
        number += 1
        if number > DEPOSITS:
            continue
        for made in (packet(HELD + number), packet(number, 2)):
            assert await engine.put(encoded(made)) == ["accepted"]
            os.write(acknowledged, f"{int.from_bytes(made.node, 'big')} {made.seq}\n".encode())
    await engine.close()
    writer.close()


async def go_on(home: Path) -> None:
    """Start anew where it was; give the command again where it had not begun."""
    writer = Writer()
    engine = MovableEngine(OLD, Rooms(home, writer))
    await engine.open()
    await everything_once(engine, home)
    if engine.place == OLD:
        await engine.move(NEW)
    while engine.busy:
        await everything_once(engine, home)
        await asyncio.sleep(0)
    assert engine.place == NEW
    assert engine.trouble is None
    await everything_once(engine, home)
    await engine.close()
    for start in (OLD, NEW):  # whichever line the configuration has
        engine = MovableEngine(start, Rooms(home, writer))
        await engine.open()
        assert engine.place == NEW
        await everything_once(engine, home)
        assert not engine.busy
        with suppress(Conflict):
            await engine.move(NEW)
        await engine.close()
    left = Rooms(home, writer).engine(OLD)
    await left.open()
    assert left.count == 0
    await left.close()
    writer.close()


async def everything_once(engine: MovableEngine, home: Path) -> None:
    """What was acknowledged is there, in that version or the next, and each node once."""
    wanted = dict.fromkeys(range(HELD), 1)
    noted = home / "acknowledged"
    for line in noted.read_text().splitlines() if noted.exists() else ():
        number, seq = map(int, line.split())
        wanted[number] = max(seq, wanted.get(number, 0))
    result = await engine.nearest(NearestQuery(packet(0).fingerprint, 10_000, "all"))
    found = [packet(0).from_cbor(data) for data in result.packets]
    assert len({each.node for each in found}) == len(found)
    held = {int.from_bytes(each.node, "big"): each.seq for each in found}
    missing = {number: seq for number, seq in wanted.items() if held.get(number, 0) < seq}
    assert not missing, missing
    assert len(held) <= len(wanted) + 1  # one deposit may have been under way


def ends(work: Callable[[], Coroutine[None, None, None]]) -> int:
    """Do it in a process of its own: the signal that ended it, or 0."""
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(work())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    if os.WEXITSTATUS(status):
        sys.exit(1)
    return 0


def main() -> None:
    at = 0
    ended = signal.SIGKILL
    while ended:
        at += 1
        home = Path(sys.argv[1]) / str(at)
        home.mkdir()
        ended = ends(lambda home=home, at=at: move(home, at))  # type: ignore[misc]
        ends(lambda home=home: go_on(home))  # type: ignore[misc]
    sys.stdout.write(f"{at - 1}\n")


if __name__ == "__main__":
    main()
