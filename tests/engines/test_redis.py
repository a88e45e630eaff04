"""What a front on Redis leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from regional.engines.address import EngineAddress
from regional.engines.redis.engine import RedisBacking
from tests.acceptance.federated import until
from tests.engines.kinds import RedisKind, Served

pytestmark = pytest.mark.parametrize("served", [RedisKind], ids=["redis"], indirect=True)


@pytest.fixture
async def asker(served: Served) -> AsyncIterator[Redis]:
    async with Redis.from_url(f"redis://{served.servers.hosts}") as client:
        yield client


async def test_who_opens_again_leaves_no_connection_behind(served: Served, name: str, asker: Redis) -> None:
    backing = RedisBacking(EngineAddress.parse(served.servers.url(name), name))
    before = len(await asker.client_list())
    for _ in range(2):
        await backing.open()
        await backing.get(b"x")
        await backing.close()
    await gone(asker, before)


async def test_a_close_that_was_cancelled_is_gone_on_with(served: Served, name: str, asker: Redis) -> None:
    backing = RedisBacking(EngineAddress.parse(served.servers.url(name), name))
    before = len(await asker.client_list())
    await backing.open()
    await asyncio.gather(*(backing.get(b"x") for _ in range(3)))
    closing = asyncio.create_task(backing.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    await backing.close()
    await gone(asker, before)


async def gone(asker: Redis, before: int) -> None:
    async def done() -> bool:
        return len(await asker.client_list()) == before

    await until(done)
