"""The durable truth of a network's packets: one LMDB environment (regional/engines/embedded/environment.py) in one
directory.

Calls block: the writer thread makes them, all but short reads.

Packets are numbered as their nodes first come, and stored by number: new ones fill page after page, whatever
their nodes are called. By node stand only number and seq, so that seqs are compared without reading packets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import lmdb

from regional.engines.embedded.environment import MAX_MAP, Environment
from regional.engines.embedded.older import Older
from regional.packets.packet import Packet
from registry.errors import KindredError

_ENTRY: Final = struct.Struct(">QQ")  # of a node: its packet's number and seq
_NUMBER: Final = struct.Struct(">Q")

Batch = Sequence[tuple[Packet, bytes]]


class Store:
    """Packets by node, and notes by name. `path` is a directory of its own; one process owns it.

    history: how many packets of a node are kept, the current one counted; of a withdrawn one,
    the tombstone alone.
    """

    def __init__(self, path: Path, max_map: int = MAX_MAP, history: int = 1) -> None:
        self._environment = Environment(path, ("nodes", "numbered", "notes", "older"), max_map)
        self._keeps = history > 1
        self._older = Older(self._environment.database("older"), history - 1)
        self._nodes = self._environment.database("nodes")
        self._packets = self._environment.database("numbered")
        self._notes = self._environment.database("notes")

    def close(self) -> None:
        """Let go of the directory."""
        self._environment.close()

    def packets(self) -> Iterator[bytes]:
        """The CBOR of every node's packet, tombstones included; nothing may be written meanwhile."""
        with self._environment.reading("numbered") as transaction:
            yield from transaction.cursor().iternext(keys=False)

    def get(self, node: bytes) -> bytes | None:
        """The CBOR of one node's packet."""
        with self._environment.reading("numbered") as transaction:
            entry = transaction.get(node, db=self._nodes)
            data: bytes | None = None if entry is None else transaction.get(entry[: _NUMBER.size])
            return data

    def history(self, node: bytes) -> list[bytes]:
        """The CBOR of a node's packets that are kept, the current one first."""
        with self._environment.reading("numbered") as transaction:
            entry = transaction.get(node, db=self._nodes)
            if entry is None:
                return []
            current = bytes(transaction.get(entry[: _NUMBER.size]))
            return [current, *self._older.read(transaction, _ENTRY.unpack(entry)[0])]

    def page(self, after: int, most: int) -> tuple[list[bytes], int]:
        """The CBOR of at most so many packets in the order of their numbers, and after which one to read on."""
        with self._environment.reading("numbered") as transaction, transaction.cursor() as packets:
            found = []
            if packets.set_range(_NUMBER.pack(after)):
                for key, data in islice(packets.iternext(), most):
                    found.append(data)
                    after = _NUMBER.unpack(key)[0] + 1
            return found, after

    def note(self, name: str) -> bytes | None:
        """What was noted last under `name`."""
        with self._environment.reading("notes") as transaction:
            value: bytes | None = transaction.get(name.encode())
            return value

    def keep_note(self, name: str, value: bytes) -> None:
        """Note `value` under `name`, durably. Raises StorageFull."""
        self._environment.write(lambda transaction: transaction.put(name.encode(), value, db=self._notes))

    def put(self, batches: Sequence[Batch]) -> list[list[bool] | KindredError]:
        """Store each batch, all or none of it; all of them with one commit where there is room.

        For each batch: which packets were taken (the others are not newer than what is held), or why it could
        not be stored. What is reported as taken is on disk.
        """
        try:
            return list(
                self._environment.write(lambda transaction: [self._apply(transaction, batch) for batch in batches])
            )
        except KindredError as error:
            if len(batches) == 1:
                return [error]
        return [self.put([batch])[0] for batch in batches]

    def remove(self, nodes: Sequence[tuple[bytes, int]]) -> list[bytes | None]:
        """Forget the packets of nodes, each unless its seq is above the one named; what was forgotten, durably."""
        return self._environment.write(
            lambda transaction: [self._forget(transaction, node, seq) for node, seq in nodes]
        )

    def _forget(self, transaction: lmdb.Transaction, node: bytes, most: int) -> bytes | None:
        entry = transaction.get(node, db=self._nodes)
        if entry is None or _ENTRY.unpack(entry)[1] > most:
            return None
        transaction.delete(node, db=self._nodes)
        number = entry[: _NUMBER.size]
        data = transaction.get(number, db=self._packets)
        transaction.delete(number, db=self._packets)
        self._older.clear(transaction, [_ENTRY.unpack(entry)[0]])
        return None if data is None else bytes(data)

    def _apply(self, transaction: lmdb.Transaction, batch: Batch) -> list[bool]:
        with transaction.cursor(self._nodes) as nodes, transaction.cursor(self._packets) as packets:
            unused = _NUMBER.unpack(packets.key())[0] + 1 if packets.last() else 0
            held = {node: _ENTRY.unpack(entry) for node, entry in nodes.getmulti([packet.node for packet, _ in batch])}
            entries: dict[bytes, bytes] = {}
            bodies: dict[bytes, bytes] = {}
            replaced: dict[int, list[tuple[int, bytes]]] = {}
            withdrawn: list[int] = []
            taken = []
            for packet, data in batch:
                number, seq = held.get(packet.node, (unused, -1))
                newer = packet.seq > seq
                if newer:
                    if packet.tombstone:
                        withdrawn.append(number)
                        replaced.pop(number, None)
                    elif self._keeps and seq >= 0:
                        key = _NUMBER.pack(number)
                        old = bodies[key] if key in bodies else bytes(transaction.get(key, b"", db=self._packets))
                        replaced.setdefault(number, []).append((seq, old))
                    unused += number == unused
                    held[packet.node] = number, packet.seq
                    entries[packet.node] = _ENTRY.pack(number, packet.seq)
                    bodies[_NUMBER.pack(number)] = data
                taken.append(newer)
            nodes.putmulti([(node, entries[node]) for node in sorted(entries)])  # neighbours share a page
            packets.putmulti(sorted(bodies.items()))
            self._older.clear(transaction, withdrawn)
            self._older.keep(transaction, replaced)
        return taken
