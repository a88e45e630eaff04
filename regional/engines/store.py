"""The durable truth of a network's packets: one LMDB environment in one directory.

LMDB commits by writing new pages, one fdatasync, and one synchronous write of the meta page that makes them
current; a process killed at any point leaves the last committed state. Calls block: the writer thread makes
them, all but short reads.

Packets are numbered as their nodes first come, and stored by number: new ones fill page after page, whatever
their nodes are called. By node stand only number and seq, so that seqs are compared without reading packets.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

import lmdb

from regional.packet import Packet
from registry.errors import Corrupt, KindredError, StorageFull, Unavailable

FIRST_MAP: Final = 1 << 20  # bytes; a network of 20 packets needs no more
MAX_MAP: Final = 64 << 30
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})  # LMDB calls a short write EIO
_ENTRY: Final = struct.Struct(">QQ")  # of a node: its packet's number and seq
_NUMBER: Final = struct.Struct(">Q")

T = TypeVar("T")
Batch = Sequence[tuple[Packet, bytes]]


class Store:
    """Packets by node, and notes by name. `path` is a directory of its own; one process owns it."""

    def __init__(self, path: Path, max_map: int = MAX_MAP) -> None:
        self._path = path
        self._max_map = max_map
        self._resizing = threading.Lock()  # LMDB: no transaction may be open while the map is resized
        self._owner = _own(path)
        try:
            self._open()
        except BaseException:
            os.close(self._owner)
            raise

    def _open(self) -> None:
        try:
            self._env = lmdb.open(str(self._path), map_size=min(FIRST_MAP, self._max_map), max_dbs=3, max_readers=64)
            self._nodes = self._env.open_db(b"nodes")
            self._packets = self._env.open_db(b"numbered")
            self._notes = self._env.open_db(b"notes")
        except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError) as error:
            raise Corrupt(f"{self._path}: not a readable store ({error}); restore it from a backup") from None
        except lmdb.Error as error:
            raise _failure(self._path, error) from None
        _sync_directory(self._path)

    def close(self) -> None:
        """Let go of the directory."""
        self._env.close()
        os.close(self._owner)

    def packets(self) -> Iterator[bytes]:
        """The CBOR of every node's packet, tombstones included; nothing may be written meanwhile."""
        with self._resizing, self._env.begin(self._packets) as transaction:
            yield from transaction.cursor().iternext(keys=False)

    def get(self, node: bytes) -> bytes | None:
        """The CBOR of one node's packet."""
        with self._resizing, self._env.begin(self._packets) as transaction:
            entry = transaction.get(node, db=self._nodes)
            data: bytes | None = None if entry is None else transaction.get(entry[: _NUMBER.size])
            return data

    def page(self, after: int, most: int) -> tuple[list[bytes], int]:
        """The CBOR of at most so many packets in the order of their numbers, and after which one to read on."""
        with self._resizing, self._env.begin(self._packets) as transaction, transaction.cursor() as packets:
            found = []
            if packets.set_range(_NUMBER.pack(after)):
                for key, data in islice(packets.iternext(), most):
                    found.append(data)
                    after = _NUMBER.unpack(key)[0] + 1
            return found, after

    def note(self, name: str) -> bytes | None:
        """What was noted last under `name`."""
        with self._resizing, self._env.begin(self._notes) as transaction:
            value: bytes | None = transaction.get(name.encode())
            return value

    def keep_note(self, name: str, value: bytes) -> None:
        """Note `value` under `name`, durably. Raises StorageFull."""
        self._write(lambda transaction: transaction.put(name.encode(), value, db=self._notes))

    def put(self, batches: Sequence[Batch]) -> list[list[bool] | KindredError]:
        """Store each batch, all or none of it; all of them with one commit where there is room.

        For each batch: which packets were taken (the others are not newer than what is held), or why it could
        not be stored. What is reported as taken is on disk.
        """
        try:
            return list(self._write(lambda transaction: [self._apply(transaction, batch) for batch in batches]))
        except KindredError as error:
            if len(batches) == 1:
                return [error]
        return [self.put([batch])[0] for batch in batches]

    def remove(self, nodes: Sequence[tuple[bytes, int]]) -> list[bytes | None]:
        """Forget the packets of nodes, each unless its seq is above the one named; what was forgotten, durably."""
        return self._write(lambda transaction: [self._forget(transaction, node, seq) for node, seq in nodes])

    def _forget(self, transaction: lmdb.Transaction, node: bytes, most: int) -> bytes | None:
        entry = transaction.get(node, db=self._nodes)
        if entry is None or _ENTRY.unpack(entry)[1] > most:
            return None
        transaction.delete(node, db=self._nodes)
        number = entry[: _NUMBER.size]
        data = transaction.get(number, db=self._packets)
        transaction.delete(number, db=self._packets)
        return None if data is None else bytes(data)

    def _apply(self, transaction: lmdb.Transaction, batch: Batch) -> list[bool]:
        with transaction.cursor(self._nodes) as nodes, transaction.cursor(self._packets) as packets:
            unused = _NUMBER.unpack(packets.key())[0] + 1 if packets.last() else 0
            held = {node: _ENTRY.unpack(entry) for node, entry in nodes.getmulti([packet.node for packet, _ in batch])}
            entries: dict[bytes, bytes] = {}
            bodies: dict[bytes, bytes] = {}
            taken = []
            for packet, data in batch:
                number, seq = held.get(packet.node, (unused, -1))
                newer = packet.seq > seq
                if newer:
                    unused += number == unused
                    held[packet.node] = number, packet.seq
                    entries[packet.node] = _ENTRY.pack(number, packet.seq)
                    bodies[_NUMBER.pack(number)] = data
                taken.append(newer)
            nodes.putmulti([(node, entries[node]) for node in sorted(entries)])  # neighbours share a page
            packets.putmulti(sorted(bodies.items()))
        return taken

    def _write(self, work: Callable[[lmdb.Transaction], T]) -> T:
        """Do `work` in one transaction, committed to disk when this returns; the map grows as it must."""
        while True:
            try:
                with self._env.begin(write=True) as transaction:
                    return work(transaction)
            except lmdb.MapFullError:
                size = self._env.info()["map_size"]
                if size >= self._max_map:
                    raise StorageFull(f"the store has reached its limit of {self._max_map} bytes") from None
                with self._resizing:
                    self._env.set_mapsize(min(2 * size, self._max_map))
            except lmdb.Error as error:
                raise _failure(self._path, error) from None


def _failure(path: Path, error: lmdb.Error) -> KindredError:
    text = str(error)
    if any(os.strerror(number) in text for number in _FULL):
        return StorageFull(f"the disk is full or fails ({text}); nothing of this was stored")
    return Unavailable(f"{path}: the store does not work: {text}")


def _own(path: Path) -> int:
    """A descriptor whose lock makes this process the owner of `path`. Raises Unavailable."""
    path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path / "owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Unavailable(f"{path} is in use by another process; one process owns a network's store") from None
    return descriptor


def _sync_directory(path: Path) -> None:
    """Make the files' names durable too: LMDB syncs what is in them only."""
    for directory in (path, path.parent):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
