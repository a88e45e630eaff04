"""Every version that was published: the last one of each zone, whole, and the steps to it, on the disk.

For incremental transfers, and so that a registry that starts again goes on where it was. One file, only ever appended
to, and written anew beside when it has grown; what is older than its bound is dropped. What `append` has returned from
is on the disk. A file that is cut or spoilt is good up to there; whether that was all is the serial's to say.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from registry.errors import ConfigError, StorageFull
from registry.publishing.logbook import lost_frame, mark_frame, read, snapshot_frames, step_frame
from registry.zones.delta import Delta, between
from registry.zones.zone import Zone

MAX_BYTES = 64 * 1024**2  # of steps, in memory and on the disk
MAX_STEP = 20_000  # names: a step of more is told as the whole zone, and secondaries transfer it so
REWRITE_BYTES = 16 * 1024**2  # of steps since the file was written anew
_STEP_BYTES = 200  # of a step beside its records
_MAGIC = b"kindred history 1\n"

log = logging.getLogger(__name__)

Step = tuple[Zone | None, Zone]  # a zone before, if there was one, and after


class History:
    """Deltas by apex, each beginning where the one before it ended; and what was published last.

    zones, serial: as they were when the file was opened. Safe to use from several threads.
    """

    def __init__(self, directory: Path | None = None, limit: int = MAX_BYTES) -> None:
        """limit: octets of all steps together. Without a directory nothing is kept on the disk. Raises ConfigError."""
        self._limit = limit
        self._steps: dict[str, deque[Delta]] = {}
        self._order: deque[str] = deque()
        self._bytes = 0
        self._lock = Lock()
        self._path = None if directory is None else directory / "zones.log"
        self._file = -1
        self._end = self._since_rewritten = 0
        self._aside: list[bytes] | None = None  # what is appended while the file is written anew
        self._owed = False
        self.zones: dict[str, Zone] = {}
        self.serial = 0
        self._last: dict[str, Zone] = {}
        if self._path is not None:
            self._open(self._path)

    @property
    def grown(self) -> bool:
        """Whether the file should be written anew: `rewrite`."""
        return self._path is not None and self._aside is None and (self._owed or self._since_rewritten > REWRITE_BYTES)

    def append(self, steps: Sequence[Step]) -> None:
        """These zones have taken these steps, all at once. Raises StorageFull: then none has."""
        deltas = [None if old is None or _names(old, new) > MAX_STEP else between(old, new) for old, new in steps]
        parts = []
        owed = False
        for (_, new), delta in zip(steps, deltas, strict=True):
            if delta is not None:
                parts.append(step_frame(delta))
            elif sum(map(len, new.branches.values())) <= MAX_STEP:
                parts += [lost_frame(new.apex), *snapshot_frames(new)]
            else:  # too long for those who wait for this step: until the file is written anew it is not there
                parts.append(lost_frame(new.apex))
                owed = True
        parts.append(mark_frame(max(new.serial for _, new in steps)))
        with self._lock:
            self._write(b"".join(parts))
            self._owed |= owed
            for (_, new), delta in zip(steps, deltas, strict=True):
                self._last[new.apex] = new
                if delta is None:
                    self._forget(new.apex)
                else:
                    self._add(delta)

    def since(self, apex: str, serial: int) -> Sequence[Delta] | None:
        """The steps from `serial` to now; () where that is now. None: not kept or unknown, a whole transfer is due."""
        with self._lock:
            steps = tuple(self._steps.get(apex, ()))
        if steps and steps[-1].after == serial:
            return ()
        for at, step in enumerate(steps):
            if step.before == serial:
                return steps[at:]
        return None

    def rewrite(self) -> None:
        """Write the file anew: the steps that are kept, and the last version of every zone.

        `append` may be called meanwhile, from other threads. Raises StorageFull: the file is as before.
        """
        if self._path is None:
            return
        with self._lock:
            steps = [step_frame(step) for steps in self._steps.values() for step in steps]
            zones = list(self._last.values())
            self._aside = []
        new = self._path.with_suffix(".new")
        try:
            with new.open("wb") as file:
                file.write(_MAGIC)
                file.writelines(steps)
                serial = 0
                for zone in zones:
                    serial = max(serial, zone.serial)
                    file.writelines(snapshot_frames(zone))
                file.write(mark_frame(serial))
                file.flush()
                os.fsync(file.fileno())
                with self._lock:
                    written = file.tell()
                    file.writelines(self._aside)
                    file.flush()
                    os.fsync(file.fileno())
                    new.replace(self._path)
                    _sync(self._path.parent)
                    os.close(self._file)
                    self._file = os.open(self._path, os.O_RDWR | os.O_APPEND)
                    self._end = os.fstat(self._file).st_size
                    self._since_rewritten, self._owed = self._end - written, False
        except OSError as error:
            raise self._full(error) from None
        finally:
            with self._lock:
                self._aside = None

    def restart(self) -> None:
        """What was published is not known for certain: tell nothing of it."""
        with self._lock:
            self.zones, self.serial, self._last = {}, 0, {}
            self._steps.clear()
            self._order.clear()
            self._bytes = 0
            self._end = len(_MAGIC)

    def close(self) -> None:
        """Let the file go."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def _open(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            data = path.read_bytes()
            if data[: len(_MAGIC)] != _MAGIC:
                os.ftruncate(self._file, 0)
                os.write(self._file, _MAGIC)
                _sync(path.parent)
                data = _MAGIC
        except OSError as error:
            raise ConfigError(f"{path}: the history of the zones cannot be opened ({error})") from None
        told = read(data, len(_MAGIC))
        if told.end != len(data):
            log.warning("%s: %d octets at the end are not whole; left out", path, len(data) - told.end)
        self._end, self.serial = told.end, told.serial
        for step in told.steps:
            self._add(step)
        self.zones = {apex: kept.zone(apex) for apex, kept in told.zones.items()}
        for apex, zone in self.zones.items():
            steps = self._steps.get(apex)
            if steps and steps[-1].after != zone.serial:
                self._forget(apex)
        self._last = dict(self.zones)

    def _write(self, data: bytes) -> None:
        if self._path is None:
            return
        try:
            if os.fstat(self._file).st_size != self._end:  # of an append that failed
                os.ftruncate(self._file, self._end)
            left = memoryview(data)
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end)
            raise self._full(error) from None
        self._end += len(data)
        self._since_rewritten += len(data)
        if self._aside is not None:
            self._aside.append(data)

    def _add(self, delta: Delta) -> None:
        steps = self._steps.get(delta.apex)
        if steps and steps[-1].after != delta.before:
            self._forget(delta.apex)
        self._steps.setdefault(delta.apex, deque()).append(delta)
        self._order.append(delta.apex)
        self._bytes += _size(delta)
        while self._bytes > self._limit and self._order:
            oldest = self._steps[self._order.popleft()]
            self._bytes -= _size(oldest.popleft())

    def _forget(self, apex: str) -> None:
        """The zone took a step that is not told of: from before it, a whole transfer is due."""
        self._bytes -= sum(map(_size, self._steps.pop(apex, ())))
        self._order = deque(each for each in self._order if each != apex)

    def _full(self, error: OSError) -> StorageFull:
        return StorageFull(f"{self._path}: no room for the history of the zones ({error}); nothing was published")


def _size(delta: Delta) -> int:
    return delta.octets + _STEP_BYTES


def _names(old: Zone, new: Zone) -> int:
    """At least how many names came or went with whole branches."""
    return sum(
        len(old.branches.get(label) or new.branches[label]) for label in old.branches.keys() ^ new.branches.keys()
    )


def _sync(directory: Path) -> None:
    """A file's name is on the disk too."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
