"""Rows of a file as packets of one network, ready to deposit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from regional.files.table import Row, select
from regional.packets.packet import Packet
from registry.errors import DocumentError, KindredError
from registry.likeness.fingerprint import encode
from registry.likeness.schema import Schema

MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class Loaded:
    """The packets of one network. collapsed: rows that share their node with a later one, which overwrites them."""

    packets: list[Packet]
    collapsed: int


def load(rows: Iterable[Row], schema: Schema, domain: str, network: str, where: Mapping[str, Any]) -> Loaded:
    """The packets of the rows that `where` picks. Raises DocumentError naming the line of a row that does not fit."""
    packets = list(_packets(select(rows, where), schema, domain, network))
    return Loaded(packets, len(packets) - len({packet.node for packet in packets}))


def _packets(rows: Iterable[Row], schema: Schema, domain: str, network: str) -> Iterator[Packet]:
    space8 = schema.space[:8]
    for row in rows:
        try:
            fingerprint = encode(schema, row.situation)
        except KindredError as error:
            raise DocumentError(f"line {row.line}: {error.detail}", **{**error.where, "line": row.line}) from None
        yield Packet(
            domain=domain,
            space8=space8,
            network=network,
            node=row.node,
            seq=sequence(row),
            t0=row.t0,
            time=row.time,
            fingerprint=fingerprint,
            action=row.action,
            outcomes=row.outcomes,
            weight=row.weight,
        )


def sequence(row: Row) -> int:
    """A sequence number that grows with what is known: milliseconds of the newest outcome, or of the action.

    The same file deposited twice changes nothing; a file with newer outcomes, or a node's next episode, overwrites.
    """
    return max(1, round(max(row.t0, row.time) * MILLISECONDS))
