"""The networks of one process over HTTP (PROTOCOL, "Network HTTP"), each under its name.

Nothing here logs a fingerprint or a node.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

import cbor2
import orjson
from aiohttp import web

from regional.client import EPOCH
from regional.engine import NearestQuery, NearestResult
from regional.network import Network
from regional.packets.deposit import Rejection
from regional.packets.packet import Packet, node_from_text
from regional.packets.packetcbor import split_sequence
from regional.releasing.aggregates import AggregateNetwork
from regional.releasing.page import digest_of
from regional.releasing.publication import Publication
from registry.errors import (
    Conflict,
    DocumentError,
    KindredError,
    NotGranted,
    QuestionError,
    TooLarge,
    Unavailable,
    UnknownName,
)
from registry.http.body import read_body
from registry.http.problem import Handler, problems
from registry.http.reply import healthz, json_response, readiness
from registry.jsontext import loads
from registry.likeness.fingerprint import from_wire

MAX_DEPOSIT: Final = 32 * 1024 * 1024  # bytes
MAX_BATCH: Final = 50_000  # packets
MAX_QUESTION: Final = 64 * 1024  # bytes
BODY_S: Final = 10.0  # a body must be there by then
_THREAD_ABOVE: Final = 32 * 1024  # bytes; reading more would hold up the event loop
_QUESTION: Final = frozenset({"space", "fingerprint", "k", "per", "actions", "within"})

NETWORKS = web.AppKey("networks", Mapping[str, Network])
BODY_LIMIT_S = web.AppKey("body_limit_s", float)

T = TypeVar("T")
Decoded = tuple[list[tuple[int, Packet]], list[Rejection]]


def network_app(networks: Mapping[str, Network], body_s: float = BODY_S) -> web.Application:
    """The application that serves these networks, which are open and stay their owner's to close."""
    app = web.Application(middlewares=[problems, _deadline])
    app[NETWORKS], app[BODY_LIMIT_S] = networks, body_s
    app.add_routes(
        [
            web.get("/healthz", healthz),
            web.get("/readyz", _readyz),
            web.get("/{network}/healthz", healthz),
            web.get("/{network}/readyz", _readyz),
            web.post("/{network}/v1/packets", _deposit),
            web.get("/{network}/v1/packets/{node}", _get),
            web.delete("/{network}/v1/packets/{node}", _withdraw),
            web.post("/{network}/v1/nearest", _nearest),
            web.get("/{network}/v1/atoms", _index),
            web.get("/{network}/v1/atoms/{digest}", _atoms),
            web.get("/{network}/v1/coverage", _coverage),
            web.get("/{network}/v1/moments", _moments),
            web.get("/{network}/v1/schema", _schema),
        ]
    )
    return app


@web.middleware
async def _deadline(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Stop working for one who has stopped waiting."""
    header = request.headers.get("Kindred-Deadline-Ms")
    if header is None:
        return await handler(request)
    if not (header.isascii() and header.isdecimal() and 0 < len(header) <= 9):
        raise QuestionError(f"Kindred-Deadline-Ms is {header!r:.30}; it is a whole number of milliseconds")
    seconds = int(header) / 1000
    try:
        async with asyncio.timeout(seconds) as timeout:
            return await handler(request)
    except TimeoutError:
        if not timeout.expired():
            raise
        raise Unavailable(f"not done within the {seconds:g} s that the request allows") from None


def _network(request: web.Request) -> Network:
    name = request.match_info["network"]
    network = request.app[NETWORKS].get(name)
    if network is None:
        raise UnknownName(f"no network {name!r:.70} is served here")
    return network


async def _body(request: web.Request, limit: int) -> bytes:
    return await read_body(request, limit, request.app[BODY_LIMIT_S])


async def _read(body: bytes, read: Callable[[bytes], T]) -> T:
    return read(body) if len(body) <= _THREAD_ABOVE else await asyncio.to_thread(read, body)


async def _deposit(request: web.Request) -> web.Response:
    network = _network(request)
    d = network.schema.dimension
    readers: dict[str, Callable[[bytes], Decoded]] = {
        "application/json": lambda body: _from_json(body, d),
        "application/x-ndjson": lambda body: _from_lines(body, d),
        "application/cbor-seq": _from_cbor,
    }
    read = readers.get(request.content_type)
    if read is None:
        raise web.HTTPUnsupportedMediaType(text=f"send one of {', '.join(readers)}")
    atomic = request.query.get("atomic", "0")
    if atomic not in ("0", "1"):
        raise QuestionError(f"atomic is {atomic!r:.20}; it is 0 or 1", path="atomic")
    packets, rejected = await _read(await _body(request, MAX_DEPOSIT), read)
    report = await network.deposit(packets, rejected, atomic == "1")
    return json_response(report.to_json())


def _decode(items: Sequence[T], decode: Callable[[T], Packet]) -> Decoded:
    if len(items) > MAX_BATCH:
        raise TooLarge(f"{len(items)} packets in one batch, at most {MAX_BATCH} are taken", limit=MAX_BATCH)
    packets: list[tuple[int, Packet]] = []
    rejected: list[Rejection] = []
    for line, item in enumerate(items, 1):
        try:
            packets.append((line, decode(item)))
        except KindredError as error:
            rejected.append(Rejection(line, str(error.where.get("path", "")), error.detail))
    return packets, rejected


def _from_json(body: bytes, d: int) -> Decoded:
    document = loads(body)
    return _decode(document if isinstance(document, list) else [document], lambda item: Packet.from_json(item, d))


def _from_lines(body: bytes, d: int) -> Decoded:
    lines = body.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return _decode(lines, lambda line: Packet.from_json(loads(line), d))


def _from_cbor(body: bytes) -> Decoded:
    return _decode(split_sequence(body), Packet.from_cbor)


async def _get(request: web.Request) -> web.Response:
    packet = await _network(request).get(node_from_text(request.match_info["node"]))
    if request.headers.get("Accept") == "application/cbor":
        return web.Response(body=packet.to_cbor(), content_type="application/cbor")
    return json_response(packet.to_json())


async def _withdraw(request: web.Request) -> web.Response:
    network = _network(request)
    node = node_from_text(request.match_info["node"])
    seq = await network.withdraw(node)
    said = {"withdrawn": True, "seq": seq if seq < 1 << 53 else str(seq), "serial": network.serial}
    return json_response({**said, "receipt": network.receipt(node)})


async def _nearest(request: web.Request) -> web.Response:
    network = _network(request)
    query = _question(loads(await _body(request, MAX_QUESTION)), network)
    serial = network.serial
    result = await network.nearest(query, _epoch(request))
    if request.headers.get("Accept") == "application/cbor":
        return web.Response(body=_in_cbor(serial, result), content_type="application/cbor")
    return web.Response(body=await asyncio.to_thread(_in_json, serial, result), content_type="application/json")


def _epoch(request: web.Request) -> int:
    """How new what the asker relies on is."""
    header = request.headers.get(EPOCH, "0")
    if not (header.isascii() and header.isdecimal() and 0 < len(header) <= 10):
        raise QuestionError(f"{EPOCH} is {header!r:.30}; it is the serial of a zone")
    return int(header)


def _in_cbor(serial: int, result: NearestResult) -> bytes:
    reply = {"serial": serial, "packets": result.packets, "tied": dict(result.tied), "truncated": result.truncated}
    return cbor2.dumps(reply)


def _in_json(serial: int, result: NearestResult) -> bytes:
    packets = [Packet.from_cbor(data).to_json() for data in result.packets]
    return orjson.dumps(
        {"serial": serial, "packets": packets, "tied": dict(result.tied), "truncated": result.truncated}
    )


def _question(document: Any, network: Network) -> NearestQuery:
    if not isinstance(document, dict):
        raise DocumentError(f"a question is an object, found {type(document).__name__}")
    for name in document:
        if name not in _QUESTION:
            raise QuestionError(f"{name!r:.60} is no member of a question; there are {', '.join(sorted(_QUESTION))}")
    for name in ("space", "fingerprint", "k"):
        if name not in document:
            raise QuestionError(f"the question has no {name}", path=name)
    space = network.schema.space.hex()
    if document["space"] != space:
        raise Conflict(f"the question is of space {document['space']!r:.80}, {network.domain} has {space}", space=space)
    k, per, actions = document["k"], document.get("per", "action"), document.get("actions")
    if type(k) is not int:
        raise QuestionError(f"k is {k!r:.30}; it is a whole number", path="k")
    if per not in ("action", "all"):
        raise QuestionError(f"per is {per!r:.30}; it is 'action' or 'all'", path="per")
    if actions is not None and not (isinstance(actions, list) and all(isinstance(each, str) for each in actions)):
        raise QuestionError("actions must be a list of names", path="actions")
    return NearestQuery(
        from_wire(document["fingerprint"], network.schema.dimension),
        k,
        per,
        None if actions is None else tuple(actions),
        _within(document.get("within"), per),
    )


def _within(value: object, per: Literal["action", "all"]) -> Mapping[str, float] | float | None:
    def number(bound: object) -> float:
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
            raise QuestionError(f"within is {bound!r:.30}; it is a distance, or one for each action", path="within")
        return float(bound)

    if not isinstance(value, dict):
        return None if value is None else number(value)
    if per == "all":
        raise QuestionError("within has a distance for each action, but per is 'all'; give one number", path="within")
    return {action: number(bound) for action, bound in value.items()}


async def _index(request: web.Request) -> web.Response:
    """The signed index of the newest epoch."""
    body = _publication(request).index
    if body is None:
        raise Unavailable("no epoch is published at the moment; ask again")
    response = web.Response(body=body, content_type="application/json")
    response.etag = digest_of(body)
    response.headers["Cache-Control"] = "no-cache"
    return response


async def _atoms(request: web.Request) -> web.Response:
    """A page or a table, by its digest; what is there once stays as it is."""
    digest = request.match_info["digest"]
    shown = _publication(request).shown(digest)
    if shown is None:
        raise UnknownName("nothing of this epoch has this digest; the index says what it has")
    response = web.Response(body=shown.body, content_type=shown.content_type)
    response.etag = digest
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response


def _publication(request: web.Request) -> Publication:
    network = _network(request)
    if not isinstance(network, AggregateNetwork):
        raise NotGranted(f"{network.domain} releases {network.schema.release}; there are no atoms")
    return network.publication


async def _coverage(request: web.Request) -> web.Response:
    network = _network(request)
    kept = [network] if network.door is None else network.door.shares()
    return json_response(
        {
            "network": network.name,
            "home": network.home,
            "domain": network.domain,
            "published": network.serial,
            **{name: sum(each.told()[name] for each in kept) for name in ("packets", "uncovered")},
            "pending": any(each.pending for each in kept),
            "coverage": network.document,
        }
    )


async def _moments(request: web.Request) -> web.Response:
    network = _network(request)
    if network.moments is None:
        raise Unavailable(f"{network.name} has made no table of moments yet")
    return json_response(network.moments)


async def _schema(request: web.Request) -> web.Response:
    schema = _network(request).schema
    response = json_response(schema.document)
    response.etag = schema.digest.hex()
    return response


async def _readyz(request: web.Request) -> web.Response:
    """Ready when every network (or the one named) has a published coverage."""
    asked = [_network(request)] if "network" in request.match_info else request.app[NETWORKS].values()
    return readiness(sorted(network.name for network in asked if network.published is None))
