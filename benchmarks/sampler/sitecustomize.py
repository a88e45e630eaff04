"""Where a process spends its processor time, by sampling: imported by every Python that has this directory on its path.

Each SIGPROF (every 2 ms of processor time) one stack is noted: the innermost file of the project in it, else which
library it was in. SIGUSR2 begins, and again ends and writes the counts to $KINDRED_SAMPLES/PID.json.
"""

import collections
import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

INTERVAL_S = 0.002
FLOORS = ("/gateway/", "/regional/", "/registry/")
LIBRARIES = ("aiohttp", "asyncio", "uvloop", "concurrent")
WAITING = ("threading.py", "queue.py", "selectors.py")
ROOT = str(Path(__file__).parent.parent.parent)

counts: collections.Counter[str] = collections.Counter()


def place(frame: FrameType | None) -> str:
    """The innermost file of the project, as floor/file.py; else the innermost library known; else other."""
    library = "other"
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(ROOT) and "/.venv/" not in name and any(floor in name for floor in FLOORS):
            if "/cli/" not in name:
                return name[len(ROOT) + 1 :]
        elif library == "other":
            library = next((each for each in LIBRARIES if each in name), "other")
        frame = frame.f_back
    return library


def note(_signal: int, frame: FrameType | None) -> None:
    """One sample. While the event loop has nothing to do, the time is that of a thread that is not waiting."""
    where = place(frame)
    if "/" not in where and where != "aiohttp":
        for ident, other in sys._current_frames().items():
            if ident != threading.main_thread().ident and not other.f_code.co_filename.endswith(WAITING):
                where = place(other) if "/" in place(other) else where
    counts[where] += 1


def toggle(_signal: int, _frame: FrameType | None) -> None:
    """Begin, or end and write."""
    if signal.getitimer(signal.ITIMER_PROF)[1]:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        (Path(os.environ["KINDRED_SAMPLES"]) / f"{os.getpid()}.json").write_text(json.dumps(counts))
    else:
        counts.clear()
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)


if "KINDRED_SAMPLES" in os.environ:
    signal.signal(signal.SIGPROF, note)
    signal.signal(signal.SIGUSR2, toggle)
