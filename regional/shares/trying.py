"""Work that must come to its end: done again, after a pause that grows, until it succeeds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from registry.errors import KindredError

FIRST_PAUSE_S: Final = 0.1

log = logging.getLogger(__name__)


class Trying:
    """what: stands still while it fails; trouble: why, None where it does not fail. last_pause_s: the longest pause."""

    def __init__(self, what: str, last_pause_s: float) -> None:
        self._what = what
        self._last_pause_s = last_pause_s
        self.trouble: str | None = None

    async def do(self, work: Callable[[], Awaitable[None]]) -> None:
        """Return when the work is done."""
        pause = FIRST_PAUSE_S
        while True:
            try:
                await work()
                self.trouble = None
                return
            except Exception as error:  # whatever it is: it must come to its end
                self.trouble = error.detail if isinstance(error, KindredError) else f"unforeseen {type(error).__name__}"
                log.warning("%s stands still: %s; again in %.1f s", self._what, self.trouble, pause)
            await asyncio.sleep(pause)
            pause = min(self._last_pause_s, 2 * pause)
