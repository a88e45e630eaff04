"""Responses of every service: JSON, problem documents (RFC 9457), health."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import orjson
from aiohttp import web

from registry.errors import KindredError

CONTENT_TYPE = "application/problem+json"


def json_response(document: object, status: int = 200) -> web.Response:
    """The document as JSON."""
    return web.Response(body=orjson.dumps(document), status=status, content_type="application/json")


def problem_response(error: KindredError) -> web.Response:
    """The response that says what this error says."""
    return _problem(error.problem(), error.status, {"Retry-After": "1"} if error.status == 503 else None)


def status_response(status: int, detail: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """The problem document of an HTTP status that has no error of ours."""
    title = HTTPStatus(status).phrase
    return _problem({"type": "about:blank", "title": title, "status": status, "detail": detail}, status, headers)


async def healthz(_request: web.Request) -> web.Response:
    """That the process runs."""
    return json_response({"status": "ok"})


def readiness(waiting: object, warnings: Mapping[str, str] | None = None) -> web.Response:
    """Ready, or 503 and what is waited for. warnings: what is not well and keeps nobody from asking."""
    document = {"status": "waiting" if waiting else "ready", "waiting": waiting}
    return json_response({**document, "warnings": warnings} if warnings else document, 503 if waiting else 200)


def _problem(document: Mapping[str, object], status: int, headers: Mapping[str, str] | None) -> web.Response:
    return web.Response(body=orjson.dumps(document), status=status, content_type=CONTENT_TYPE, headers=headers)
