"""A network that splits itself, seen from inside; and the commands by which an operator steers it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from regional.engine import NearestQuery
from regional.packets.admission import Fitting
from regional.service import network_app
from regional.shares.sharing import Shares
from regional.shares.splitting import Household
from regional.shares.steering import Steered, add_steering
from registry.clock import ManualClock
from registry.errors import Conflict, Moved, QuestionError, TooLarge
from registry.keys import SigningKey, sign_document
from tests.regional.splitter import D, Ground, version
from tests.regional.support import KEY


def test_killed_at_every_step(tmp_path: Path) -> None:
    """Kill -9 after each write: started anew it goes on, and what was acknowledged is held, in the end once."""
    program = Path(__file__).parent / "splitter.py"
    done = subprocess.run([sys.executable, program, tmp_path], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 10


@dataclass
class Running:
    household: Household
    served: dict[str, Any]

    async def finished(self) -> None:
        assert self.household._task is not None
        await self.household._task


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """A network `one` of 100 packets."""
    ground = Ground(tmp_path)
    network, engine = ground.share("one", {"at": "one"})
    served = {"one": network}
    household = Household(network, engine, ground, served)
    await household.open()
    household.start()
    await network.deposit([(number, version(number, 1)) for number in range(100)])
    yield Running(household, served)
    await household.close()
    ground.writer.close()


QUERY = NearestQuery(np.zeros(D, dtype=np.float32), 1000, "all")


async def test_three_shares(running: Running) -> None:
    state = await running.household.split(3)
    assert state["step"] == "copying"
    with pytest.raises(Conflict, match="being split"):
        await running.household.move("one", {"at": "elsewhere"})
    assert (await running.household.split(3))["network"] == "one"
    await running.finished()
    assert running.household.names == ["one", "one-s2", "one-s3"]
    counts = [network.count for network in running.served.values()]
    assert sum(counts) == 100
    assert min(counts) >= 30
    with pytest.raises(Conflict, match="split into 3 already"):
        await running.household.split(2)
    home = running.served["one"]
    packets = [(number, version(number, 2)) for number in range(100)]
    with pytest.raises(TooLarge, match="several shares"):
        await home.deposit(packets, atomic=True)
    assert (await home.deposit([*packets, *packets])).stale == 100
    assert sum(network.count for network in running.served.values()) == 100
    await home.withdraw(version(3, 1).node)
    assert sum(network.count for network in running.served.values()) == 99
    assert (await home.deposit([(1, version(3, 3))])).stale == 1
    assert (await home.deposit([(1, version(3, 4))])).accepted == 1


async def test_a_deposit_that_waits_while_the_network_parts_is_kept(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the last step is being noted: it goes to the share alone, and is tidied away from nowhere."""
    await running.household.split(2)
    engine, home = running.household._engine._seat.engine, running.served["one"]
    parting, waiting, go = asyncio.Event(), asyncio.Event(), asyncio.Event()
    keep_note, store = engine.keep_note, Shares.store

    async def slow(name: str, value: bytes) -> None:
        if b'"parted"' in value:
            parting.set()
            await go.wait()
        await keep_note(name, value)

    async def told(self: Shares, fitting: Fitting, whole: bool) -> tuple[int, int]:
        waiting.set()
        return await store(self, fitting, whole)

    monkeypatch.setattr(engine, "keep_note", slow)
    monkeypatch.setattr(Shares, "store", told)
    await parting.wait()
    own = running.household._cut.of(np.stack([version(number, 1).fingerprint for number in range(100, 200)]))
    made = version(100 + int(np.flatnonzero(own == 1)[0]), 1)
    depositing = asyncio.create_task(home.deposit([(1, made)]))
    await waiting.wait()
    for _ in range(20):  # it comes as far as it may
        await asyncio.sleep(0)
    assert not depositing.done()
    go.set()
    assert (await depositing).accepted == 1
    await running.finished()
    assert (await home.get(made.node)).seq == 1
    assert [network.count for network in running.served.values()].count(0) == 0
    assert sum(network.count for network in running.served.values()) == 101
    assert made.to_cbor() in (await running.served["one-s2"].nearest(QUERY)).packets


async def test_who_knows_what_was_before_is_told(running: Running) -> None:
    await running.household.split(2)
    await running.finished()
    home = running.served["one"]
    epoch = running.household.state()["epoch"]
    assert epoch == home.handed_over > 0
    assert len((await home.nearest(QUERY, epoch)).packets) == home.count
    assert len((await home.nearest(QUERY)).packets) == home.count
    with pytest.raises(Moved) as told:
        await home.nearest(QUERY, epoch - 1)
    assert told.value.where == {"epoch": epoch}


async def test_a_share_moves_by_itself(running: Running) -> None:
    await running.household.split(2)
    await running.finished()
    share = running.served["one-s2"]
    before = share.count
    await running.household.move("one-s2", {"at": "elsewhere"})
    await running.household._parts[1][1]._task  # type: ignore[misc]
    assert running.household._note["places"] == [{"at": "elsewhere"}]
    assert share.count == before


@pytest.mark.parametrize("into", [-1, 0, 1, 65])
async def test_what_is_no_number_of_shares(running: Running, into: int) -> None:
    with pytest.raises(QuestionError, match="2 to 64"):
        await running.household.split(into)


async def test_what_cannot_be_split_stays_whole(running: Running) -> None:
    running.served["one-s2"] = running.served["one"]
    with pytest.raises(Conflict, match="another network called 'one-s2'"):
        await running.household.split(2)
    del running.served["one-s2"]
    home = running.served["one"]
    await home.deposit([(number, replace(version(1, 2), node=version(number, 1).node)) for number in range(100)])
    with pytest.raises(Conflict, match="do not lie apart"):
        await running.household.split(2)
    assert running.household.state()["step"] is None
    assert home.count == 100


CLOCK = ManualClock()


@pytest_asyncio.fixture
async def door(running: Running) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    app = network_app(running.served)
    add_steering(app, {"one": Steered(running.household, KEY.public)}, CLOCK)
    async with TestClient(TestServer(app)) as client:
        yield client


def command(key: SigningKey = KEY, **changes: object) -> bytes:
    members = {"v": 1, "network": "one", "issued": CLOCK.now(), "into": 2, "engine": {"at": "elsewhere"}}
    return orjson.dumps(sign_document({**members, **changes}, key))


@pytest.mark.parametrize("what", ["move", "split"])
@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (command(SigningKey(bytes([9]) * 32)), 401, "signed by"),
        (command().replace(b'"v":1', b'"v":2'), 401, "does not verify"),
        (command(network="two"), 403, "the command is for 'two'"),
        (command(issued=CLOCK.now() - 61), 409, "not of now"),
        (command(issued=CLOCK.now() + 61), 409, "not of now"),
        (command(issued=None), 409, "not of now"),
        (b"[]", 400, "a signed object"),
        (b"{", 400, ""),
        (command(into="2", engine={"at": 2}), 400, "object of texts: at|a number of shares"),
        (command(into=None, engine=None), 400, "object of texts: at|a number of shares"),
    ],
)
async def test_commands_that_are_not_followed(
    door: TestClient[web.Request, web.Application], what: str, body: bytes, status: int, says: str
) -> None:
    response = await door.post(f"/one/v1/{what}", data=body)
    assert response.status == status
    detail = (await response.json())["detail"]
    assert any(each in detail for each in says.split("|"))
    state = await (await door.get("/one/v1/shares")).json()
    assert (state["step"], state["shares"][0]["to"]) == (None, None)


async def test_commands(door: TestClient[web.Request, web.Application], running: Running) -> None:
    assert (await door.post("/two/v1/move", data=command())).status == 404
    reply = await (await door.post("/one/v1/split", data=command())).json()
    assert reply["step"] == "copying"
    await running.finished()
    moved = await door.post("/one-s2/v1/move", data=command(network="one-s2"))
    assert (await moved.json())["to"] == "elsewhere"
    asked = {"space": running.served["one"].schema.space.hex(), "fingerprint": [0.0] * D, "k": 1}
    epoch = running.household.state()["epoch"]
    told = await door.post("/one/v1/nearest", json=asked, headers={"Kindred-Epoch": str(epoch - 1)})
    assert told.status == 421
    assert await told.json() == {
        "type": "urn:kindred:problem:moved",
        "title": "Moved",
        "status": 421,
        "detail": f"one has handed over what it covered before serial {epoch}; ask the registry anew",
        "epoch": epoch,
    }
    assert (await door.post("/one/v1/nearest", json=asked, headers={"Kindred-Epoch": str(epoch)})).status == 200
    assert (await door.post("/one/v1/nearest", json=asked, headers={"Kindred-Epoch": "soon"})).status == 400
