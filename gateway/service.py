"""The gateway over HTTP (PROTOCOL, "Ask"; DESIGN section 8)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
from aiohttp import web

from gateway.federation import Federation
from gateway.question import Question
from registry.errors import DocumentError, KindredError, TooLarge
from registry.http.body import read_body
from registry.http.problem import problems
from registry.http.reply import healthz, json_response, readiness
from registry.jsontext import loads

MAX_BODY = 4 * 1024 * 1024
MAX_BATCH = 10_000
BATCH_AT_ONCE = 8
BODY_TIMEOUT_S = 10.0

ANSWER_SCHEMA = Path(__file__).with_name("answer.schema.json")

FEDERATION = web.AppKey("federation", Federation)


def gateway_app(federation: Federation) -> web.Application:
    """The application; the federation's life is its owner's."""
    app = web.Application(middlewares=[problems])
    app[FEDERATION] = federation
    app.add_routes(
        [
            web.post("/v1/ask", _ask),
            web.post("/v1/resolve", _resolve),
            web.get("/v1/networks", _networks),
            web.get("/v1/domains", _domains),
            web.get("/v1/answer.schema.json", _answer_schema),
            web.get("/healthz", healthz),
            web.get("/readyz", _readyz),
        ]
    )
    return app


async def _body(request: web.Request) -> bytes:
    return await read_body(request, MAX_BODY, BODY_TIMEOUT_S)


async def _ask(request: web.Request) -> web.StreamResponse:
    federation = request.app[FEDERATION]
    body = await _body(request)
    if request.content_type == "application/x-ndjson":
        return await _batch(request, body)
    answer = await federation.ask(Question.from_document(loads(body)))
    return json_response(answer.document())


async def _batch(request: web.Request, body: bytes) -> web.StreamResponse:
    """One question a line; one answer or problem a line, in the same order."""
    lines = [(number, line) for number, line in enumerate(body.split(b"\n"), 1) if line.strip()]
    if len(lines) > MAX_BATCH:
        raise TooLarge(f"{len(lines)} questions in one batch; at most {MAX_BATCH} are taken", limit=MAX_BATCH)
    if not lines:
        raise DocumentError("an empty batch; send one question a line")
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    async for document in _answers(request.app[FEDERATION], lines):
        await response.write(orjson.dumps(document) + b"\n")
    await response.write_eof()
    return response


async def _answers(federation: Federation, lines: list[tuple[int, bytes]]) -> AsyncIterator[object]:
    async def one(number: int, line: bytes) -> object:
        try:
            return (await federation.ask(Question.from_document(loads(line)))).document()
        except KindredError as error:
            return {**error.problem(), "line": number}

    for start in range(0, len(lines), BATCH_AT_ONCE):
        block = lines[start : start + BATCH_AT_ONCE]
        for document in await asyncio.gather(*(one(number, line) for number, line in block)):
            yield document


async def _resolve(request: web.Request) -> web.Response:
    question = Question.from_document(loads(await _body(request)))
    return json_response(await request.app[FEDERATION].resolve(question))


async def _networks(request: web.Request) -> web.Response:
    federation = request.app[FEDERATION]
    domain = request.query.get("domain")
    domains = [domain] if domain is not None else sorted(federation.schemas)
    listed = await asyncio.gather(*(federation.networks(name) for name in domains))
    return json_response({"networks": [network for part in listed for network in part]})


async def _domains(request: web.Request) -> web.Response:
    schemas = request.app[FEDERATION].schemas
    return json_response(
        {
            "domains": [
                {
                    "name": name,
                    "title": schema.title,
                    "notice": schema.notice,
                    "study": schema.study,
                    "release": schema.release,
                    "space": schema.space.hex(),
                    "schema": schema.digest.hex(),
                    "dimension": schema.dimension,
                    "features": [feature.name for feature in schema.features],
                    "actions": list(schema.actions),
                    "outcomes": {
                        outcome.name: {"kind": outcome.kind, "unit": outcome.unit, "better": outcome.better}
                        for outcome in schema.outcomes.values()
                    },
                }
                for name, schema in sorted(schemas.items())
            ]
        }
    )


async def _answer_schema(_: web.Request) -> web.FileResponse:
    """The JSON Schema of what /v1/ask returns."""
    return web.FileResponse(ANSWER_SCHEMA, headers={"Content-Type": "application/schema+json"})


async def _readyz(request: web.Request) -> web.Response:
    """Ready when the registry answers for every domain."""
    federation = request.app[FEDERATION]
    waiting = {}
    for domain in sorted(federation.schemas):
        try:
            await federation.resolver.tree(federation.naming(domain), 1.0)
        except KindredError as error:
            waiting[domain] = error.detail
    return readiness(waiting)
