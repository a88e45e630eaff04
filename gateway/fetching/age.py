"""How old what an answer rests on is, and whether its parts may be put together: a decision without a clock."""

from __future__ import annotations


class Ages:
    """The versions of each registry's zone that a walk has read.

    A zone changes in place in an order that lets versions be mixed as long as they are no further apart than it keeps
    what it replaces (`keep=` of its apex, seconds; None: nothing changes in place). A server that lags, or a cache that
    is not ours, can bring versions further apart together: then something that moved may have been seen nowhere.
    """

    def __init__(self) -> None:
        self._read: dict[str, tuple[int, int, int | None]] = {}

    def take(self, apex: str, serial: int, newest: int, keep_s: int | None) -> None:
        """Something of the zone at `apex` was read, at least as new as `serial` and at most as new as `newest`."""
        oldest, latest, _ = self._read.get(apex, (serial, serial, keep_s))
        self._read[apex] = min(oldest, serial), max(latest, serial, newest), keep_s

    @property
    def as_of(self) -> int:
        """Seconds since the epoch: all is at least as new. 0: not known."""
        return min((oldest for oldest, _, _ in self._read.values()), default=0)

    def oldest(self, apex: str) -> int:
        """The serial that all that was read of this zone is at least as new as. 0: not known."""
        return self._read[apex][0] if apex in self._read else 0

    @property
    def apart(self) -> bool:
        """Whether versions were read that must not be put together."""
        return any(keep_s is not None and latest - oldest > keep_s for oldest, latest, keep_s in self._read.values())
