"""How an operator steers networks that run: commands over HTTP, signed by the network's key as its coverages are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from regional.shares.splitting import Household
from registry.clock import Clock
from registry.errors import ConfigError, Conflict, DocumentError, NotGranted, QuestionError, UnknownName
from registry.http.body import read_body
from registry.http.reply import json_response
from registry.jsontext import loads
from registry.keys import verify_document

MAX_COMMAND: Final = 16 * 1024  # bytes
MAX_AGE_S: Final = 60.0  # a command that was signed longer ago, or later than now, is not followed
BODY_S: Final = 10.0
_PLACE: Final = frozenset({"at", "user", "password", "ca"})


@dataclass(frozen=True, slots=True)
class Steered:
    """A network that can be steered, and the public key of who may."""

    household: Household
    public: bytes


STEERED = web.AppKey("steered", Mapping[str, Steered])
CLOCK = web.AppKey("clock", Clock)


def add_steering(app: web.Application, steered: Mapping[str, Steered], clock: Clock) -> None:
    """Let the application take commands for these networks, by name."""
    app[STEERED], app[CLOCK] = steered, clock
    app.add_routes(
        [
            web.post("/{network}/v1/move", _move),
            web.post("/{network}/v1/split", _split),
            web.get("/{network}/v1/shares", _state),
        ]
    )


def _steered(request: web.Request) -> tuple[str, Steered]:
    """The network, or the one that it is a share of."""
    name = request.match_info["network"]
    for each in request.app[STEERED].values():
        if name in each.household.names:
            return name, each
    raise UnknownName(f"no network {name!r:.70} is served here")


async def _command(request: web.Request) -> tuple[str, Household, dict[str, Any]]:
    """Which network, and what is commanded. Raises SignatureError, NotGranted, Conflict, DocumentError."""
    name, steered = _steered(request)
    document = loads(await read_body(request, MAX_COMMAND, BODY_S))
    if not isinstance(document, dict):
        raise DocumentError(f"a signed object is wanted, found {type(document).__name__}")
    verify_document(document, steered.public)
    if document.get("network") != name:
        raise NotGranted(f"the command is for {document.get('network')!r:.70}, sent to {name!r}")
    issued, now = document.get("issued"), request.app[CLOCK].now()
    if not isinstance(issued, int | float) or abs(now - issued) > MAX_AGE_S:
        raise Conflict(f"the command is not of now, {now:.0f}: set the clock, or give it again", now=now)
    return name, steered.household, document


async def _move(request: web.Request) -> web.Response:
    name, household, document = await _command(request)
    place = document.get("engine")
    if not (isinstance(place, dict) and place.keys() <= _PLACE and all(isinstance(v, str) for v in place.values())):
        raise QuestionError("engine is an object of texts: at, and user, password and ca where needed", path="engine")
    try:
        return json_response(await household.move(name, place))
    except ConfigError as error:  # the place is not one of federation.yaml, but of the command
        raise QuestionError(error.detail, path="engine") from None


async def _split(request: web.Request) -> web.Response:
    name, household, document = await _command(request)
    if name != household.names[0]:
        raise Conflict(f"{name} is a share of {household.names[0]}; a share is not split again")
    if type(document.get("into")) is not int:
        raise QuestionError(f"into is {document.get('into')!r:.30}; it is a number of shares", path="into")
    try:
        return json_response(await household.split(document["into"]))
    except ConfigError as error:
        raise QuestionError(error.detail, path="engine") from None


async def _state(request: web.Request) -> web.Response:
    return json_response(_steered(request)[1].household.state())
