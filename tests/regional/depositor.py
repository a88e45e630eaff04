"""A process that deposits for ever and prints what was acknowledged: `python depositor.py DIRECTORY FIRST`.

With a third argument, the number of deposits made at once, it does so once and ends.
"""

import asyncio
import os
import resource
import signal
import sys
from pathlib import Path

import numpy as np

from regional.engines.embedded.engine import EmbeddedEngine
from regional.engines.embedded.writer import Writer
from regional.packets.packet import Packet
from registry.errors import StorageFull


def packet(number: int) -> Packet:
    """Packet `number`: node and fingerprint follow from it."""
    point = np.array([number % 7, number], dtype=np.float32)
    return Packet("x", b"12345678", "net", number.to_bytes(4, "big"), 1, 0.0, 0.0, point, "a")


def say(line: str) -> None:
    """One whole line at once, so that a killed process leaves no half of one that could be misread."""
    os.write(1, f"{line}\n".encode())


async def deposit_all(directory: Path, first: int, at_once: int) -> None:
    writer = Writer()
    engine = EmbeddedEngine("net", 2, directory, writer)
    await engine.open()

    async def deposit(number: int) -> None:
        made = packet(number)
        assert await engine.put([(made, made.to_cbor())]) == ["accepted"]
        say(str(number))

    say("open")
    if at_once:
        await asyncio.gather(*(deposit(first + i) for i in range(at_once)))
    while not at_once:
        await asyncio.gather(*(deposit(first + i) for i in range(5)))
        first += 5
    await engine.close()
    writer.close()


def main() -> None:
    directory, first = Path(sys.argv[1]), int(sys.argv[2])
    at_once = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    if len(sys.argv) > 4:  # files may not grow beyond this: to the store, a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
    try:
        asyncio.run(deposit_all(directory, first, at_once))
    except StorageFull as error:
        say(f"full: {error.detail}")


if __name__ == "__main__":
    main()
