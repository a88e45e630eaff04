"""What the registry must not forget: signed coverages and renewals, serials, generation numbers.

LMDB with its default durability: a transaction is on the disk when `commit` returns, and a kill at any moment
leaves the one before it or the one after it. Numbers are handed out only once they are on the disk, so neither a
serial nor a generation is ever used twice.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import lmdb
import orjson

from registry.errors import ConfigError, Corrupt, KindredError, StorageFull

MAP_BYTES = 8 * 1024**3  # address space, not disk: the file grows with what is kept

_SERIAL = b"serial"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept of one network: signed documents, and when they were received (seconds since the epoch)."""

    coverage: Mapping[str, Any]
    received: float
    renewal: Mapping[str, Any] | None = None
    renewal_received: float = 0.0


class Journal:
    """One directory on the disk, of one process at a time."""

    def __init__(self, directory: Path, map_bytes: int = MAP_BYTES) -> None:
        """Open or create. Raises ConfigError where that is not possible; Corrupt where the file is cut short."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            _check_head(directory / "data.mdb")
            self._env = lmdb.open(str(directory), map_size=map_bytes, max_dbs=3)
            _fill_up(directory / "data.mdb", (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"])
            self._networks = self._env.open_db(b"networks")
            self._counters = self._env.open_db(b"counters")
        except lmdb.CorruptedError as error:
            raise _cut(directory, error) from None
        except (OSError, lmdb.Error) as error:
            raise ConfigError(f"{directory}: the registry's journal cannot be opened ({error})") from None
        self.directory = directory
        self._place = str(directory)
        self._using = threading.Lock()

    def close(self) -> None:
        """Let go, after what another thread is about to finish: LMDB must not be closed under a transaction."""
        with self._using:
            self._env.close()

    def entries(self) -> dict[str, Entry]:
        """Every network's entry by name. Raises Corrupt naming the network that does not decode."""
        try:
            with self._using, self._env.begin(db=self._networks) as transaction:
                return {key.decode(): self._entry(key, value) for key, value in transaction.cursor()}
        except lmdb.Error as error:
            raise _cut(self.directory, error) from None

    def put(self, network: str, entry: Entry) -> None:
        """Keep `entry` as the network's; on the disk when this returns. Raises StorageFull: the old one stays."""
        value = orjson.dumps(
            {
                "coverage": entry.coverage,
                "received": entry.received,
                "renewal": entry.renewal,
                "renewal_received": entry.renewal_received,
            }
        )
        self._write(lambda transaction: transaction.put(network.encode(), value, db=self._networks))

    def next_serial(self, now: int) -> int:
        """The next serial of the zones: max(now, last + 1). Raises StorageFull."""
        return self._advance(_SERIAL, now)

    def last_serial(self) -> int:
        """The last serial handed out, 0 before the first."""
        with self._using, self._env.begin(db=self._counters) as transaction:
            return int.from_bytes(transaction.get(_SERIAL, b""), "big")

    def next_generation(self, domain: str) -> int:
        """A generation number of the domain that was never used before; the first is 1. Raises StorageFull."""
        return self._advance(b"generation/" + domain.encode(), 1)

    def skip_generations(self, domain: str, last: int) -> None:
        """Never hand out `last` or a lower number for the domain. Raises StorageFull."""
        self._advance(b"generation/" + domain.encode(), last)

    def _advance(self, counter: bytes, least: int) -> int:
        def advance(transaction: lmdb.Transaction) -> int:
            last = int.from_bytes(transaction.get(counter, b"", db=self._counters), "big")
            value = max(least, last + 1)
            transaction.put(counter, value.to_bytes(8, "big"), db=self._counters)
            return value

        return self._write(advance)

    def _write(self, change: Callable[[lmdb.Transaction], _T]) -> _T:
        try:
            with self._using, self._env.begin(write=True) as transaction:
                return change(transaction)
        except (lmdb.MapFullError, lmdb.DiskError) as error:
            raise self._full(error) from None
        except lmdb.Error as error:
            if "No space" in str(error):
                raise self._full(error) from None
            raise Corrupt(f"{self._place}: the registry's journal does not take a write ({error})") from None

    def _full(self, error: Exception) -> KindredError:
        return StorageFull(f"{self._place}: no room in the registry's journal ({error}); nothing was changed")

    def _entry(self, key: bytes, value: bytes) -> Entry:
        try:
            return Entry(**orjson.loads(value))
        except (TypeError, ValueError) as error:
            raise Corrupt(f"{self._place}: the entry of {key.decode()} does not decode ({error})") from None


def _check_head(path: Path) -> None:
    """LMDB maps the file: to read beyond its end would end the process. Raises Corrupt."""
    if path.exists() and 0 < path.stat().st_size < 2 * mmap.PAGESIZE:
        raise _cut(path.parent, "its head is not whole")


def _fill_up(path: Path, length: int) -> None:
    """Let the file have all pages that its head speaks of; what was cut off is found out where it is read, or was
    free."""
    if path.stat().st_size < length:
        os.truncate(path, length)


def _cut(directory: Path, error: object) -> Corrupt:
    return Corrupt(
        f"{directory}: the registry's journal is cut short or spoilt ({error}); put a whole copy in its place, or move "
        "it away: then every network has to send its coverage again"
    )
