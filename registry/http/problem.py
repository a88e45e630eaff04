"""Errors over HTTP as problem documents (RFC 9457); nobody outside ever sees a stack trace."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from traceback import format_tb

from aiohttp import web

from registry.errors import KindredError
from registry.http.reply import problem_response, status_response

OUR_FAULT = "this is our fault; it is logged"

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


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
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return status_response(error.status, error.text or error.reason, headers)
    except web.RequestPayloadError:
        return status_response(400, "the body is not encoded as its headers say")
    except Exception as error:
        log_unforeseen(error, f"{request.method} {request.match_info.route.resource}")
        return status_response(500, OUR_FAULT)


def log_unforeseen(error: BaseException | None, where: str) -> None:
    """Log the error's type and the lines that led to it, not its words: they may be of a situation or a node."""
    lines = [] if error is None else format_tb(error.__traceback__)
    log.error("unforeseen %s at %s\n%s", type(error).__name__, where, "".join(lines))
