"""The ledger of atoms: who was published in which, durably; one LMDB environment beside the network's store.

An epoch is written to it, in one transaction, before anything of the epoch is served: whatever a crash interrupts, what
may have been read outside is known here. It must never go back in time: a ledger that forgot what was published would
publish it again in other company. So it is no part of a backup, and a network does not open one that is older than the
last epoch which its log of withdrawals (regional/releasing/withdrawals.py) knows.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cbor2
import lmdb
import numpy as np

from regional.cohort import Figures
from regional.engines.embedded.environment import Environment
from regional.releasing.atom import Atom
from regional.releasing.release import MARK_OCTETS, Held, Mark, Member, State, Step
from registry.errors import Corrupt

SECRET_OCTETS: Final = 32


class Ledger:
    """Of one network, in the directory `path`, which one process owns. secret: what marks are made under."""

    def __init__(self, path: Path) -> None:
        """Open, or begin. Raises Unavailable where another process has it, Corrupt where it is not readable."""
        self._path = path
        self._environment = Environment(path, ("atoms", "marks", "notes"))
        try:
            held = self._note(b"secret")
            if held is None:
                held = secrets.token_bytes(SECRET_OCTETS)
                new = held
                self._environment.write(lambda transaction: self._put(transaction, b"secret", new))
            self.secret: bytes = held
            self.state: State = self._read()
        except (cbor2.CBORError, KeyError, TypeError, ValueError) as error:
            self.close()
            raise Corrupt(f"{path}: the ledger of atoms does not decode ({error!r:.100})") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the directory."""
        self._environment.close()

    def known(self, marks: Sequence[Mark]) -> list[bool]:
        """Which of them are of values that were published."""
        with self._environment.reading("marks") as transaction, transaction.cursor() as cursor:
            found = {key for key, _ in cursor.getmulti(list(marks))}
        return [mark in found for mark in marks]

    def commit(self, step: Step) -> None:
        """The step is taken: on the disk when this returns. Raises StorageFull, with nothing written."""
        state = step.state
        atoms = self._environment.database("atoms")
        marks = self._environment.database("marks")

        def write(transaction: lmdb.Transaction) -> None:
            for number in step.gone:
                transaction.delete(_key(number), db=atoms)
            for number in sorted(step.changed):
                transaction.put(_key(number), _encoded(state.held[number]), db=atoms)
            for mark in sorted(step.marks):
                transaction.put(mark, b"", db=marks)
            counts = [state.epoch, state.numbers, state.pages, dict(state.kept_back)]
            self._put(transaction, b"state", cbor2.dumps(counts))

        self._environment.write(write)
        self.state = state

    def _read(self) -> State:
        noted = self._note(b"state")
        if noted is None:
            return State()
        epoch, numbers, pages, kept_back = cbor2.loads(noted)
        with self._environment.reading("atoms") as transaction, transaction.cursor() as cursor:
            held = {int.from_bytes(key, "big"): _decoded(int.from_bytes(key, "big"), data) for key, data in cursor}
        return State(epoch, numbers, pages, held, kept_back)

    def _note(self, name: bytes) -> bytes | None:
        with self._environment.reading("notes") as transaction:
            value: bytes | None = transaction.get(name)
            return value

    def _put(self, transaction: lmdb.Transaction, name: bytes, value: bytes) -> None:
        transaction.put(name, value, db=self._environment.database("notes"))


def _key(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _encoded(held: Held) -> bytes:
    atom = held.atom
    return cbor2.dumps(
        [
            atom.action,
            atom.size,
            atom.weight,
            atom.place.astype("<i8").tobytes(),
            {name: list(figures) for name, figures in atom.figures.items()},
            b"".join([member.who + member.episode for member in held.members]),
            held.page,
            dict(held.parts),
        ]
    )


def _decoded(number: int, data: bytes) -> Held:
    action, size, weight, place, figures, members, page, parts = cbor2.loads(data)
    atom = Atom(number, action, size, weight, np.frombuffer(place, "<i8").astype(np.int64), _figures(figures))
    both = 2 * MARK_OCTETS
    pairs = [members[start : start + both] for start in range(0, len(members), both)]
    return Held(atom, tuple(Member(pair[:MARK_OCTETS], pair[MARK_OCTETS:]) for pair in pairs), page, parts)


def _figures(rows: Mapping[str, Any]) -> dict[str, Figures]:
    return {name: Figures(*row) for name, row in rows.items()}
