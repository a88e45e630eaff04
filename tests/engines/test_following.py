"""What is not heard yet is waited for, also by who has heard of nothing."""

from __future__ import annotations

import asyncio

from regional.engine import Told, Watch
from regional.engines.following import Following
from tests.engines.kinds import HOME, D


class Silent:
    """A server that keeps nothing, and then is silent."""

    where = "nowhere"

    async def watch(self, after: int | None = None) -> Watch:
        yield Told([], complete=True, afresh=True, position=after or 0)
        await asyncio.Event().wait()


async def test_an_empty_network_is_not_taken_for_one_that_was_heard() -> None:
    following = Following(HOME, D, Silent())
    await following.open()
    await following.reach(0)
    reaching = asyncio.create_task(following.reach(1))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not reaching.done()
    reaching.cancel()
    await following.close()
