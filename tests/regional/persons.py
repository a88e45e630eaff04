"""Persons who come, change and leave, for the tests of what may be published of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from regional.packets.packet import Packet
from regional.releasing.release import Mark, Person, Rules, State, Step, advance
from registry.likeness.schema import Outcome, Schema

SCHEMA = Schema.from_document(
    {
        "title": "Ward",
        "study": "observational",
        "release": "aggregates",
        "min_cohort": 5,
        "bandwidth_floor": 0.5,
        "actions": {"a": "First", "b": "Second"},
        "features": {
            "x": {"kind": "number", "label": "X", "unit": "m", "scale": 1.0, "range": [-1000, 1000]},
            "y": {"kind": "number", "label": "Y", "unit": "m", "scale": 1.0, "range": [-1000, 1000]},
        },
        "outcomes": {
            "died": {"kind": "binary", "label": "Died", "horizon": "30d"},
            "cost": {"kind": "number", "label": "Cost", "unit": "euro"},
            "life": {"kind": "duration", "label": "Life", "unit": "days"},
        },
    },
    "ward",
)
D = SCHEMA.dimension
LATE = 1e9  # every horizon has passed
SECRET = bytes(range(32))


def rules(
    least: int = 3, secret: bytes = SECRET, outcomes: Mapping[str, Outcome] = SCHEMA.outcomes, step: float = 2.0**-6
) -> Rules:
    return Rules(outcomes, least, step, secret)


def packet(number: int, action: str = "a", **members: object) -> Packet:
    """Person `number`; where nothing else is said, at a place of his own, and with outcomes of his own."""
    rng = np.random.default_rng(number)
    made = Packet(
        "ward",
        SCHEMA.space[:8],
        "one",
        number.to_bytes(4, "big"),
        1,
        1.0,
        2.0,
        rng.normal(size=D).astype(np.float32),
        action,
        {"died": float(rng.random() < 0.4), "cost": float(rng.normal()), "life": (3.0, True)},
    )
    return replace(made, **members)  # type: ignore[arg-type]


class Published:
    """The marks of a network, in memory."""

    def __init__(self) -> None:
        self.marks: set[Mark] = set()

    def known(self, marks: Sequence[Mark]) -> list[bool]:
        return [mark in self.marks for mark in marks]


class Ward:
    """One network's persons, and what it has published."""

    def __init__(self, of: Rules | None = None) -> None:
        self.rules = of or rules()
        self.state = State()
        self.spent = Published()
        self.packets: dict[int, Packet] = {}
        self._persons: dict[int, Person] = {}

    def put(self, *numbers: int, **members: object) -> None:
        for number in numbers:
            self.packets[number] = packet(number, **members)  # type: ignore[arg-type]

    def persons(self) -> list[Person]:
        """Made anew only of packets that are new: it is what a long game would spend most of its time on."""
        self._persons = {number: self._person(number, each) for number, each in self.packets.items()}
        return list(self._persons.values())

    def _person(self, number: int, of: Packet) -> Person:
        known = self._persons.get(number)
        return known if known is not None and known.packet is of else Person.of(of, self.rules.secret)

    def publish(self, now: float = LATE) -> Step | None:
        """The next epoch, if there is to be one."""
        step = advance(self.state, self.persons(), self.spent, self.rules, now)
        if step is not None:
            self.state = step.state
            self.spent.marks.update(step.marks)
        return step
