"""Places for tests of moves: directories of embedded stores, and stores that end the process at a chosen step."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regional.engines.embedded.engine import EmbeddedEngine
from regional.engines.embedded.writer import Writer
from regional.packets.packet import Packet

D = 2


def packet(number: int, seq: int = 1) -> Packet:
    """Packet `number` in the version `seq`: node and fingerprint follow from them."""
    point = np.array([number % 7 + seq, number], dtype=np.float32)
    return Packet("x", b"12345678", "net", number.to_bytes(4, "big"), seq, 0.0, 0.0, point, "a")


def encoded(*packets: Packet) -> list[tuple[Packet, bytes]]:
    return [(each, each.to_cbor()) for each in packets]


class Rooms:
    """{at: NAME} is a store in the directory NAME."""

    def __init__(self, home: Path, writer: Writer, step: Callable[[], None] | None = None) -> None:
        self._home = home
        self._writer = writer
        self._step = step

    def engine(self, place: Mapping[str, Any]) -> Any:
        engine = EmbeddedEngine("net", D, self._home / str(place["at"]), self._writer)
        return engine if self._step is None else Stepped(engine, self._step, "put" if place["at"] == "new" else "")

    def name(self, place: Mapping[str, Any]) -> str:
        return str(place["at"])


class Stepped:
    """A store that calls `step` after each note, each removal, and each `also`."""

    def __init__(self, engine: EmbeddedEngine, step: Callable[[], None], also: str) -> None:
        self._engine = engine
        self._step = step
        self._steps = ("remove", "keep_note", also)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        if name not in self._steps:
            return found

        async def stepped(*inputs: Any) -> Any:
            done = await found(*inputs)
            self._step()
            return done

        return stepped


def killer(at: int) -> Callable[[], None]:
    """A step that ends this process as a power cut would, the so-manieth time it is taken."""
    steps = iter(range(1, at))

    def step() -> None:
        if next(steps, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    return step
