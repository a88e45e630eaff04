"""What a front on Redis leaves behind."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from regional.engines.address import EngineAddress
from regional.engines.redis.engine import RedisBacking
from tests.engines.kinds import RedisKind, Served

pytestmark = pytest.mark.parametrize("served", [RedisKind], ids=["redis"], indirect=True)


async def test_who_opens_again_leaves_no_connection_behind(served: Served, name: str) -> None:
    backing = RedisBacking(EngineAddress.parse(served.servers.url(name), name))
    async with Redis.from_url(f"redis://{served.servers.hosts}") as client:
        before = len(await client.client_list())
        for _ in range(2):
            await backing.open()
            await backing.get(b"x")
            await backing.close()
        assert len(await client.client_list()) == before
