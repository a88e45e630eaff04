"""Tables over all persons of a network that are published with each epoch of its atoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from regional.packets.packet import Packet
from regional.releasing.atom import Atom


class Attachment(Protocol):
    """One table: sums over whole atoms, or over atoms that are bound together, which stay so, and go together.

    It is put together from parts, one for each atom, made when the atom is formed and kept beside it, unpublished,
    until the atom is withdrawn. What changes of a person later does not change the part; it is bound once at most.
    """

    @property
    def name(self) -> str:
        """What the epoch's index calls it: a to z and hyphens."""

    def part(self, atom: Atom, members: Sequence[Packet]) -> bytes:
        """What the table needs of one atom's members, as they are now. b"" where it needs nothing of them.

        Of the outcomes that `atom.figures` does not name it may hold nothing: they are known of too few. But for
        durations, of which no atom has figures: a table says how many it takes to tell of them.
        """

    def bound(self, atoms: Sequence[tuple[Atom, bytes]]) -> Mapping[int, bytes]:
        """The parts of those of all atoms, by number, which from now on are told together, and were not before."""

    def table(self, atoms: Sequence[tuple[Atom, bytes]]) -> bytes | None:
        """The table over these atoms with their parts, as it is published; None where there is to be none.

        The same atoms give the same octets, in whatever order: the table is addressed by their digest.
        """
