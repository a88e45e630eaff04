"""The last steps of every zone, for incremental transfers: bounded, the oldest dropped."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from registry.delta import Delta

MAX_BYTES = 64 * 1024**2
_STEP_BYTES = 200  # of a step beside its records


class History:
    """Deltas by apex, each beginning where the one before it ended."""

    def __init__(self, limit: int = MAX_BYTES) -> None:
        """limit: octets of all steps together."""
        self._limit = limit
        self._steps: dict[str, deque[Delta]] = {}
        self._order: deque[str] = deque()
        self._bytes = 0

    def add(self, delta: Delta) -> None:
        """The zone has taken this step. What does not follow on the last one makes all before it useless."""
        steps = self._steps.setdefault(delta.apex, deque())
        if steps and steps[-1].after != delta.before:
            self.forget(delta.apex)
            steps = self._steps.setdefault(delta.apex, deque())
        steps.append(delta)
        self._order.append(delta.apex)
        self._bytes += _size(delta)
        while self._bytes > self._limit and self._order:
            oldest = self._steps[self._order.popleft()]
            self._bytes -= _size(oldest.popleft())

    def forget(self, apex: str) -> None:
        """The zone took a step that is not told of: from before it, a whole transfer is due."""
        steps = self._steps.pop(apex, ())
        self._bytes -= sum(map(_size, steps))
        self._order = deque(each for each in self._order if each != apex)

    def since(self, apex: str, serial: int) -> Sequence[Delta] | None:
        """The steps from `serial` to now; () where that is now. None: not kept or unknown, a whole transfer is due."""
        steps = tuple(self._steps.get(apex, ()))
        if steps and steps[-1].after == serial:
            return ()
        for at, step in enumerate(steps):
            if step.before == serial:
                return steps[at:]
        return None


def _size(delta: Delta) -> int:
    return delta.octets + _STEP_BYTES
