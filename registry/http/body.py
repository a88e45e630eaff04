"""Reading a request's body: bounded in octets and in time."""

from __future__ import annotations

import asyncio

from aiohttp import web

from registry.errors import TooLarge


async def read_body(request: web.Request, limit: int, timeout_s: float) -> bytes:
    """The body, of at most `limit` octets. Raises TooLarge; HTTPRequestTimeout where it is not there by then."""
    if (request.content_length or 0) > limit:
        raise TooLarge(f"the body has {request.content_length} bytes, at most {limit} are taken", limit=limit)
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s) as timeout:
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limit:
                    raise TooLarge(f"the body is longer than {limit} bytes", limit=limit)
    except TimeoutError:
        if not timeout.expired():
            raise
        raise web.HTTPRequestTimeout(text=f"the body came too slowly; it is waited for {timeout_s:g} s") from None
    return bytes(body)
