"""Cells as they are served: rendered many at a time, and only where they changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from registry.dns.rrset import rendered, together
from registry.dns.wire import SVCB, name_to_wire
from registry.errors import RegionError
from registry.geometry.cell import MAX_RECORDS, Address, CellRecord, Naming
from registry.zones.names import Branch, Node
from registry.zones.record import cell_labels, encode_cell

MAX_CELL_BYTES = 16 * 1024
_TOGETHER = 256  # cells, or records, encoded at a time

Shown = tuple[CellRecord, ...] | None  # None: there is no such cell


@dataclass(frozen=True, slots=True)
class Rendering:
    """How the cells of one generation are rendered. ttl: seconds."""

    naming: Naming
    generation: int
    actions: Sequence[str]
    ttl: int

    @property
    def label(self) -> bytes:
        """The label next to the apex, in wire form: the generation's branch of the zone."""
        return name_to_wire(f"g{self.generation}")[:-1]

    def labels(self, address: Address) -> bytes:
        """The cell's name before the apex, in wire form."""
        return cell_labels(address) + self.label

    def cells(self, cells: Iterable[tuple[Address, Sequence[CellRecord]]]) -> Iterator[tuple[bytes, Node]]:
        """Labels and node of each cell. Raises RegionError for one that no server would carry."""
        waiting = iter(cells)
        while some := list(islice(waiting, _TOGETHER)):
            encoded = iter(self._encode([record for _, records in some for record in records]))
            for address, records in some:
                yield self.labels(address), self._node(address, list(islice(encoded, len(records))))

    def rdatas(self, records: Iterable[CellRecord]) -> Iterator[bytes]:
        """The RDATA of each record."""
        waiting = iter(records)
        while some := list(islice(waiting, _TOGETHER)):
            yield from encode_cell(some, self.naming, self.generation, self.actions)

    def changed(
        self, names: Branch, changes: Iterable[tuple[Address, Shown, Shown]]
    ) -> Iterator[tuple[bytes, Node | None]]:
        """Labels and node of each changed cell: address, its records as `names` has them, and as they are now."""
        some = [(address, shown, now, self.labels(address)) for address, shown, now in changes]
        known: dict[int, bytes] = {}
        for _, shown, _, labels in some:
            if shown:
                [served] = names[labels]
                known.update(zip(map(id, shown), served.records(), strict=True))
        new = {id(record): record for _, _, now, _ in some for record in now or () if id(record) not in known}
        known.update(zip(new, self._encode(list(new.values())), strict=True))
        for address, _, now, labels in some:
            yield labels, None if now is None else self._node(address, [known[id(record)] for record in now])

    def _encode(self, records: Sequence[CellRecord]) -> list[bytes]:
        return rendered(SVCB, self.ttl, encode_cell(records, self.naming, self.generation, self.actions))

    def _node(self, address: Address, records: Sequence[bytes]) -> Node:
        node = together(SVCB, records)
        if node.n > MAX_RECORDS or len(node.wire) > MAX_CELL_BYTES:
            raise RegionError(
                f"the cell {self.naming.cell(self.generation, address)} has {node.n} records in "
                f"{len(node.wire)} octets; at most {MAX_RECORDS} in {MAX_CELL_BYTES} are served: split it"
            )
        if len(set(records)) != node.n:
            name = self.naming.cell(self.generation, address)
            raise RegionError(f"the cell {name} has two equal records; region ids must differ")
        return (node,) if records else ()
