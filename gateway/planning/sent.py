"""What members sent of one home network, and which of two packets of one node counts: the newest.

While a network is being split, and while a node moves from one share to another, two members may hold its packets: put
comes before delete, so that a node is always held somewhere. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from regional.packets.batch import Batch
from regional.releasing.atombatch import AtomBatch
from registry.errors import PacketError

UNNUMBERED: Final = -1


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """One reply. home: whose packets they are. overtaken: rows that do not count, as they stand elsewhere too."""

    network: str
    batch: Batch | AtomBatch
    tied: Mapping[str, int]
    home: str
    overtaken: set[int] = field(default_factory=set)


def overtaken(new: Sent, others: Sequence[Sent]) -> tuple[frozenset[str], bool]:
    """Mark what does not count any more in `new` and in the others of its home.

    Returns the networks of which a packet was older than another's, and whether one of the others has been marked.
    """
    older: set[str] = set()
    touched = False
    if not others:
        return frozenset(), False
    rows = {node: row for row, node in enumerate(new.batch.nodes)}
    for other in others:
        for row, node in enumerate(other.batch.nodes):
            if node not in rows or row in other.overtaken or rows[node] in new.overtaken:
                continue
            theirs, ours = _seq(other.batch, row), _seq(new.batch, rows[node])
            if ours > theirs:
                other.overtaken.add(row)
                older.add(other.network)
                touched = True
            else:
                new.overtaken.add(rows[node])
                older |= {new.network} if ours < theirs else set()
    return frozenset(older), touched


def _seq(batch: Batch | AtomBatch, row: int) -> int:
    """-1 of what is no packet: any other counts before it. Atoms are in one place."""
    try:
        return batch.details(row).seq if isinstance(batch, Batch) else UNNUMBERED
    except PacketError:
        return UNNUMBERED
