"""Gathering the networks' tables: whose is not there, not signed, or of something else is named; the rest counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from gateway.fetching import gathering
from gateway.fetching.cache import Cache, Kept
from gateway.fetching.gathering import AGAIN_S, REFRESH_S, TOO_MANY, Gathering
from gateway.fetching.pages import Pages
from gateway.fetching.resolver import Resolver
from regional.client import Failed, NetworkClient
from regional.momenttable import MomentTable
from registry.clock import ManualClock
from registry.errors import LookupFailed
from registry.geometry.cell import Naming
from registry.keys import SigningKey, public_text
from registry.resolving.lookup import NetworkInfo
from registry.zones.texts import NetworkText
from tests.gateway.test_adjustment import SCHEMA, People

NAMING = Naming("people", "kindred.internal.")
PEOPLE = People(400, 1)
KEYS = {name: SigningKey(name.encode().ljust(32)[:32]) for name in ("north", "south", "east", "west")}


def table(name: str, serial: int = 3) -> dict[str, Any]:
    rows = np.flatnonzero(np.arange(400) % 4 == sorted(KEYS).index(name))
    made = PEOPLE.table(rows)
    return MomentTable(made.cells, made.columns, 0, serial).document(
        ("people", name), SCHEMA.space.hex(), 1.0, KEYS[name]
    )


class Side:
    """The registry and the networks: what each sends, and how often it was asked."""

    def __init__(self, clock: ManualClock) -> None:
        self.cache = Cache(clock)
        self.serial = 3
        self.sent: dict[str, Callable[[], Any]] = {name: lambda name=name: table(name) for name in KEYS}  # type: ignore[misc]
        self.asked = 0

    async def network(self, _: Naming, name: str, __: float) -> Kept[NetworkInfo]:
        if name not in KEYS:
            raise LookupFailed("no such name")
        text = NetworkText(
            serial=self.serial, issued=0.0, lease_s=60.0, packets=100, uncovered=0, key=public_text(KEYS[name].public),
            engine="embedded", lapsed=False,
        )  # fmt: skip
        return Kept(NetworkInfo((f"http://{name}",), text), 1)

    async def moments(self, endpoint: str, _: float) -> dict[str, Any]:
        self.asked += 1
        found: dict[str, Any] = self.sent[endpoint.removeprefix("http://")]()
        return found


def gatherer(side: Side, clock: ManualClock) -> Gathering:
    return Gathering(NAMING, SCHEMA, cast(Resolver, side), cast(NetworkClient, side), cast(Pages, None), clock)


async def one_round(of: Gathering) -> None:
    of.begin()
    await of.settle(10.0)
    if of._round is not None:  # whoever has something does not wait for the next round
        await of._round


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def side(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Side:
    async def names(*_: object) -> list[str]:
        return sorted(KEYS)

    monkeypatch.setattr(gathering, "roll", names)
    return Side(clock)


def raising(error: Exception) -> Callable[[], Any]:
    def send() -> Any:
        raise error

    return send


async def test_all_tables_are_one_whole_and_kept_for_a_while(side: Side, clock: ManualClock) -> None:
    of = gatherer(side, clock)
    await one_round(of)
    assert of.whole is not None
    assert (of.whole.networks, dict(of.whole.missing)) == (4, {})
    everyone = of.whole.everyone("yield")
    assert everyone is not None
    assert everyone.n == 400
    of.begin()
    assert of._round is None  # nothing is due
    clock.advance(REFRESH_S)
    await one_round(of)
    assert side.asked == 8


async def test_whose_table_is_no_table_is_named(side: Side, clock: ManualClock) -> None:
    side.sent["north"] = raising(Failed("connection refused"))
    side.sent["south"] = lambda: {**table("south"), "refused": 7}  # not what was signed
    side.sent["west"] = lambda: table("east")  # signed by another
    of = gatherer(side, clock)
    await one_round(of)
    assert of.whole is not None
    assert of.whole.networks == 1
    assert "refused" in of.whole.missing["north"]
    assert "does not verify" in of.whole.missing["south"]
    assert "signed by" in of.whole.missing["west"]
    side.sent = {name: lambda name=name: table(name) for name in KEYS}  # type: ignore[misc]
    clock.advance(10.0)  # soon again; a failure is remembered for a few seconds
    await one_round(of)
    assert of.whole.networks == 4


async def test_a_table_older_than_the_coverage_is_asked_for_again_soon(side: Side, clock: ManualClock) -> None:
    side.serial = 4
    of = gatherer(side, clock)
    await one_round(of)
    assert of.whole is not None  # it counts all the same
    side.sent = {name: lambda name=name: table(name, 4) for name in KEYS}  # type: ignore[misc]
    clock.advance(AGAIN_S)
    await one_round(of)
    assert side.asked == 8


async def test_without_any_table_the_reason_is_told(
    side: Side, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    side.sent = dict.fromkeys(KEYS, raising(Failed("connection refused")))
    of = gatherer(side, clock)
    await one_round(of)
    assert of.whole is None
    assert "connection refused" in of.reason

    async def too_many(*_: object) -> None:
        return None

    monkeypatch.setattr(gathering, "roll", too_many)
    of = gatherer(side, clock)
    await one_round(of)
    assert (of.whole, of.reason) == (None, TOO_MANY)

    async def nobody(*_: object) -> list[str]:
        raise LookupFailed("no answer")

    monkeypatch.setattr(gathering, "roll", nobody)
    of = gatherer(side, clock)
    await one_round(of)
    assert "no answer" in of.reason


async def test_a_first_question_waits_no_longer_than_it_may(side: Side, clock: ManualClock) -> None:
    async def never(*_: object) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    side.moments = never  # type: ignore[method-assign,assignment]
    of = gatherer(side, clock)
    of.begin()
    await of.settle(0.01)
    assert of.whole is None
    await of.close()
    await side.cache.close()
