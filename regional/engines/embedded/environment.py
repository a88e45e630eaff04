"""One LMDB environment in one directory that one process owns.

LMDB commits by writing new pages, one fdatasync, and one synchronous write of the meta page that makes them
current; a process killed at any point leaves the last committed state. Calls block.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import lmdb

from registry.errors import Corrupt, KindredError, StorageFull, Unavailable

FIRST_MAP: Final = 1 << 20  # bytes; a network of 20 packets needs no more
MAX_MAP: Final = 64 << 30
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})  # LMDB calls a short write EIO

T = TypeVar("T")


class Environment:
    """Databases by name; the map grows as it must, up to `max_map` bytes. Raises Unavailable, Corrupt, StorageFull."""

    def __init__(self, path: Path, names: Sequence[str], max_map: int = MAX_MAP) -> None:
        self._path = path
        self._max_map = max_map
        self._resizing = threading.Lock()  # LMDB: no transaction may be open while the map is resized
        self._owner = _own(path)
        try:
            self._open(names)
        except BaseException:
            os.close(self._owner)
            raise

    def _open(self, names: Sequence[str]) -> None:
        try:
            size = min(FIRST_MAP, self._max_map)
            self._env = lmdb.open(str(self._path), map_size=size, max_dbs=len(names), max_readers=64)
            self._databases = {name: self._env.open_db(name.encode()) for name in names}
        except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError) as error:
            raise Corrupt(f"{self._path}: not a readable store ({error}); restore it from a backup") from None
        except lmdb.Error as error:
            raise _failure(self._path, error) from None
        _sync_directory(self._path)

    def close(self) -> None:
        """Let go of the directory."""
        self._env.close()
        os.close(self._owner)

    def database(self, name: str) -> lmdb._Database:
        """For use within a transaction."""
        return self._databases[name]

    @contextmanager
    def reading(self, name: str) -> Iterator[Any]:
        """A transaction that reads this database, unless another is named; nothing may be written meanwhile."""
        with self._resizing, self._env.begin(self._databases[name]) as transaction:
            yield transaction

    def write(self, work: Callable[[lmdb.Transaction], T]) -> T:
        """Do `work` in one transaction, committed to disk when this returns."""
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
