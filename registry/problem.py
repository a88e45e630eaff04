"""Errors over HTTP as problem documents (RFC 9457); nobody outside ever sees a stack trace."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web

from registry.errors import KindredError

CONTENT_TYPE = "application/problem+json"

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def problem_response(error: KindredError) -> web.Response:
    """The response that says what this error says."""
    headers = {"Retry-After": "1"} if error.status == 503 else None
    return web.Response(
        body=orjson.dumps(error.problem()), status=error.status, content_type=CONTENT_TYPE, headers=headers
    )


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every failure of a handler into a problem document."""
    try:
        return await handler(request)
    except KindredError as error:
        return problem_response(error)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        body = {"type": "about:blank", "title": error.reason, "status": error.status, "detail": error.text}
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return web.Response(body=orjson.dumps(body), status=error.status, content_type=CONTENT_TYPE, headers=headers)
    except TimeoutError:
        body = {
            "type": "about:blank",
            "title": "Request Timeout",
            "status": 408,
            "detail": "the body came too slowly",
        }
        return web.Response(body=orjson.dumps(body), status=408, content_type=CONTENT_TYPE)
    except Exception as error:
        log.exception("unforeseen %s at %s %s", type(error).__name__, request.method, request.match_info.route.resource)
        body = {
            "type": "about:blank",
            "title": "Internal error",
            "status": 500,
            "detail": "this is our fault; it is logged",
        }
        return web.Response(body=orjson.dumps(body), status=500, content_type=CONTENT_TYPE)
