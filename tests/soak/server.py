"""A name server in a process of its own, so that its memory can be watched: prints its port, ends with its input."""

from __future__ import annotations

import asyncio
import sys

from registry.clock import SystemClock
from registry.dns.tsig import TsigKey
from registry.serving.limiter import Limiter
from registry.serving.nameserver import NameServer
from registry.serving.primary import Primary
from tests.registry.sample_zones import zone_set


async def main() -> None:
    zones = zone_set()
    clock = SystemClock()
    key = TsigKey("k1.", b"0123456789abcdef0123456789abcdef")
    primary = Primary(lambda: zones, clock, [key])
    server = NameServer(lambda: zones, limiter=Limiter(clock.monotonic), primary=primary)
    await server.start()
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await server.close()


asyncio.run(main())
