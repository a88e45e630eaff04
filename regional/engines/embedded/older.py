"""The packets of a node that newer ones have replaced, as many as are wanted, in one LMDB database."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Final

import lmdb

_KEY: Final = struct.Struct(">QQ")  # the node's number in the store, and the packet's seq: the newest last
_NUMBER: Final = struct.Struct(">Q")


class Older:
    """At most `most` for each node, beside its current packet. Its calls are parts of a caller's transaction."""

    def __init__(self, database: lmdb._Database, most: int) -> None:
        self._database = database
        self._most = most

    def keep(self, transaction: lmdb.Transaction, replaced: Mapping[int, Iterable[tuple[int, bytes]]]) -> None:
        """Take replaced packets with their seqs, by number of their node; the oldest make room."""
        with transaction.cursor(self._database) as cursor:
            for number, packets in sorted(replaced.items()):
                for seq, data in packets:
                    cursor.put(_KEY.pack(number, seq), data)
                for key in self._keys(cursor, number)[: -self._most or None]:
                    transaction.delete(key, db=self._database)

    def clear(self, transaction: lmdb.Transaction, numbers: Iterable[int]) -> None:
        """Forget all of these nodes; whatever was kept when more was wanted, too."""
        with transaction.cursor(self._database) as cursor:
            for number in numbers:
                for key in self._keys(cursor, number):
                    transaction.delete(key, db=self._database)

    def read(self, transaction: lmdb.Transaction, number: int) -> list[bytes]:
        """Those of a node, the newest first."""
        with transaction.cursor(self._database) as cursor:
            keys = self._keys(cursor, number)[::-1][: self._most]
            return [bytes(cursor.get(key, b"")) for key in keys]

    @staticmethod
    def _keys(cursor: lmdb.Cursor, number: int) -> list[bytes]:
        """The keys of a node, the oldest first."""
        prefix, found = _NUMBER.pack(number), []
        more = cursor.set_range(prefix)
        while more and (key := bytes(cursor.key())).startswith(prefix):
            found.append(key)
            more = cursor.next()
        return found
