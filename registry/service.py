"""The registry over HTTP: coverages and leases in, listings out (PROTOCOL, "Coverage").

A coverage is answered only after it is published, so that the network may call its packets covered then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

from registry.clock import Clock
from registry.errors import Unavailable
from registry.http.body import read_body
from registry.http.problem import problems
from registry.http.reply import healthz, json_response, readiness
from registry.jsontext import loads
from registry.keys import public_text
from registry.publishing.coverage import MAX_COVERAGE_BYTES
from registry.publishing.enrolment import Enrolment
from registry.publishing.member import Member
from registry.publishing.membership import Membership
from registry.publishing.publisher import Publisher

MAX_LEASE_BYTES = 4096
BODY_TIMEOUT_S = 10.0
PUBLISH_TIMEOUT_S = 30.0

ENROLMENT = web.AppKey("enrolment", Enrolment)
PUBLISHER = web.AppKey("publisher", Publisher)
CLOCK = web.AppKey("clock", Clock)
BODY_TIMEOUT = web.AppKey("body_timeout", float)
MEMBERSHIPS = web.AppKey("memberships", Mapping[str, Membership])
WARNINGS: web.AppKey[Callable[[], Mapping[str, str]]] = web.AppKey("warnings")


def registry_app(
    enrolment: Enrolment,
    publisher: Publisher,
    clock: Clock,
    body_timeout_s: float = BODY_TIMEOUT_S,
    memberships: Sequence[Membership] = (),
    warnings: Callable[[], Mapping[str, str]] = dict,
) -> web.Application:
    """The application. It keeps the publisher and the memberships running for as long as it runs itself.

    warnings: what is not well beside it, as with its secondaries, by name.
    """
    app = web.Application(middlewares=[problems])
    app[ENROLMENT], app[PUBLISHER], app[CLOCK], app[BODY_TIMEOUT] = enrolment, publisher, clock, body_timeout_s
    app[WARNINGS] = warnings
    app[MEMBERSHIPS] = {each.domain: each for each in memberships}
    app.cleanup_ctx.append(_publishing)
    app.add_routes(
        [
            web.put("/v1/networks/{name}/coverage", _cover),
            web.put("/v1/networks/{name}/lease", _renew),
            web.get("/v1/networks", _networks),
            web.get("/v1/networks/{name}", _network),
            web.get("/v1/domains", _domains),
            web.get("/v1/domains/{name}/schema", _schema),
            web.get("/healthz", healthz),
            web.get("/readyz", _readyz),
        ]
    )
    return app


async def _publishing(app: web.Application) -> AsyncIterator[None]:
    work = [app[PUBLISHER].run(), *(membership.run() for membership in app[MEMBERSHIPS].values())]
    tasks = [asyncio.create_task(each) for each in work]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _body(request: web.Request, limit: int) -> Any:
    """The request's JSON. Raises DocumentError, TooLarge, HTTPRequestTimeout."""
    body = await read_body(request, limit, request.app[BODY_TIMEOUT])
    return await asyncio.to_thread(loads, body, limit)


async def _cover(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    enrolment, publisher = request.app[ENROLMENT], request.app[PUBLISHER]
    enrolment.member(name)
    document = await _body(request, MAX_COVERAGE_BYTES)
    serial = await asyncio.to_thread(enrolment.cover, name, document)
    publisher.wake()
    try:
        async with asyncio.timeout(PUBLISH_TIMEOUT_S):
            published = await publisher.published(name, serial)
            membership = request.app[MEMBERSHIPS].get(enrolment.member(name).domain)
            if membership is not None:
                published = max(published, await membership.covered())
    except TimeoutError:
        raise Unavailable(f"serial {serial} of {name} is kept, but not published yet; send it again") from None
    return json_response({"serial": serial, "published": published})


async def _renew(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    enrolment = request.app[ENROLMENT]
    enrolment.member(name)
    document = await _body(request, MAX_LEASE_BYTES)
    held = await asyncio.to_thread(enrolment.renew, name, document)
    request.app[PUBLISHER].wake()
    return json_response({"serial": held.coverage.serial, "until": held.until})


def _described(request: web.Request, member: Member) -> dict[str, Any]:
    """What is known of a network; `published` is the serial of its coverage that DNS tells of."""
    enrolment = request.app[ENROLMENT]
    held = enrolment.holding(member.name)
    published = request.app[PUBLISHER].state(member.domain).serials
    schema = enrolment.domain(member.domain).schema.digest.hex()
    return {
        "name": member.name,
        "domain": member.domain,
        "home": member.home,
        "engine": member.engine,
        "endpoints": list(member.endpoints),
        "key": public_text(member.key),
        "serial": enrolment.serial(member.name),
        "published": published.get(member.name, 0),
        "coverage": None
        if held is None
        else {
            "issued": held.issued,
            "lease_s": held.lease_s,
            "until": held.until,
            "lapsed": held.lapsed(request.app[CLOCK]),
            "packets": held.coverage.packets,
            "uncovered": held.coverage.uncovered,
            "regions": len(held.coverage.regions),
            "schema": held.coverage.schema,
            "schema_is_ours": held.coverage.schema == schema,
        },
        "withheld": enrolment.withheld(member.name),
    }


async def _networks(request: web.Request) -> web.Response:
    enrolment = request.app[ENROLMENT]
    domain = request.query.get("domain")
    if domain is not None:
        enrolment.domain(domain)
    members = [member for member in enrolment.everyone() if domain in (None, member.domain)]
    return json_response({"networks": [_described(request, member) for member in members]})


async def _network(request: web.Request) -> web.Response:
    return json_response(_described(request, request.app[ENROLMENT].member(request.match_info["name"])))


async def _domains(request: web.Request) -> web.Response:
    enrolment, publisher = request.app[ENROLMENT], request.app[PUBLISHER]
    listed = []
    for name, domain in enrolment.domains.items():
        state = publisher.state(name)
        holdings = enrolment.holdings(name).values()
        listed.append(
            {
                "name": name,
                "title": domain.schema.title,
                "release": domain.schema.release,
                "min_cohort": domain.least,
                "dimension": domain.schema.dimension,
                "space": domain.schema.space.hex(),
                "schema": domain.schema.digest.hex(),
                "schema_url": domain.schema_url,
                "networks": sum(member.domain == name for member in enrolment.everyone()),
                "regions": sum(len(held.coverage.regions) for held in holdings),
                "packets": sum(held.coverage.packets for held in holdings),
                "generation": state.generation,
                "cells": state.cells,
                "serial": state.serial,
            }
        )
    return json_response({"domains": listed})


async def _schema(request: web.Request) -> web.Response:
    schema = request.app[ENROLMENT].domain(request.match_info["name"]).schema
    response = json_response(schema.document)
    response.etag = schema.digest.hex()
    response.headers["Cache-Control"] = "max-age=60"
    return response


async def _readyz(request: web.Request) -> web.Response:
    """Ready when every domain is published as it should be, here and by its parent.

    A secondary that does not hear is no reason to ask nobody here: it is a warning.
    """
    parents = {
        f"{domain} at its parent": each.trouble
        for domain, each in request.app[MEMBERSHIPS].items()
        if each.trouble is not None
    }
    return readiness({**request.app[PUBLISHER].troubles(), **parents}, request.app[WARNINGS]())
