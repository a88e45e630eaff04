"""Where a network's packets are: noted beside them, so that a process which ends at any point finds its way.

| the old place's note | the new place's note | the packets are at | a start goes on with |
|---|---|---|---|
| | arriving | the old place | nothing: the move had not begun |
| copying | arriving | the old place | copying |
| moved | arriving or arrived | the new place | taking them from the old place |
| moved | here | the new place | nothing |
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final, Protocol

from regional.engine import Engine
from registry.errors import Corrupt
from registry.jsontext import canonical, loads

Place = Mapping[str, Any]  # an `engine` of federation.yaml: {at, user, password, ca}; secrets as references

NOTE: Final = "moving"
MAX_PLACES: Final = 16  # in a row, from one note to the next
_STEPS: Final = frozenset({None, "copying", "moved", "arriving", "arrived", "here"})

log = logging.getLogger(__name__)


class Places(Protocol):
    """Where a network's packets can be."""

    def engine(self, place: Place) -> Engine:
        """What keeps them there, not open yet. Raises ConfigError."""

    def name(self, place: Place) -> str:
        """The place in words, the same for the same place. Raises ConfigError."""


async def read(engine: Engine) -> Mapping[str, Any]:
    """The note: {step, to or from}; empty where there is none. Raises Corrupt."""
    note = await engine.note(NOTE)
    found = {} if note is None else loads(note)
    if not isinstance(found, dict) or found.get("step") not in _STEPS:
        raise Corrupt("the note on where the packets are is not readable; restore it from a backup")
    return found


async def keep(engine: Engine, **note: Any) -> None:
    """Write the note, durably."""
    await engine.keep_note(NOTE, canonical(note))


async def find(start: Place, places: Places) -> tuple[Place, Engine]:
    """From note to note, the place where the packets are, and its engine, opened. Raises Corrupt for a circle."""
    place, left = start, ""
    for _ in range(MAX_PLACES):
        engine, name = places.engine(place), places.name(place)
        await engine.open()
        note = await read(engine)
        step = note.get("step")
        if step != "moved" and (step != "arriving" or places.name(note["from"]) == left):
            return place, engine
        await engine.close()
        place, left = (note["to"], name) if step == "moved" else (note["from"], "")
        log.warning("the packets are not at %s: looking at %s", name, places.name(place))
    raise Corrupt(f"the notes on where the packets are lead in a circle, through {places.name(place)}")
