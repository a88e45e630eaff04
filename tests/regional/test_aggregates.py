"""A network of persons, with its disk, its registry and its service: what is shown of it, and what is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import orjson
import pytest
import pytest_asyncio

from regional.advertiser import Advertiser
from regional.engines.embedded.engine import EmbeddedEngine
from regional.engines.embedded.writer import Writer
from regional.network import Network
from regional.packets.packet import Packet, node_text
from regional.releasing.aggregates import AggregateNetwork
from regional.releasing.atom import Atom
from regional.releasing.attachment import Attachment
from regional.releasing.epoch import EpochIndex
from regional.releasing.ledger import Ledger
from regional.releasing.page import Home, digest_of, read_page
from regional.releasing.publication import Publication
from regional.releasing.release import Held
from regional.releasing.withdrawals import Withdrawals
from regional.service import network_app
from regional.tabulator import Tabulator
from registry.clock import ManualClock
from registry.errors import Conflict, UnknownName
from registry.http.httpserver import HttpServer
from registry.keys import verify_document
from tests.regional.persons import SCHEMA, D, packet
from tests.regional.support import KEY, FakeRegistry, numbered

LEAST = 5
NOW = 2e9


class House:
    """One network on a disk, which can be closed and opened again."""

    def __init__(self, home: Path, clock: ManualClock, writer: Writer) -> None:
        self.home, self.clock, self.writer = home, clock, writer
        self.registry = FakeRegistry()
        self.network: AggregateNetwork
        self.advertiser: Advertiser

    async def open(self, *attachments: Attachment) -> None:
        withdrawals = Withdrawals(self.home / "withdrawn" / "one")
        engine = EmbeddedEngine("one", D, self.home / "store", self.writer)
        ledger = Ledger(self.home / "atoms")
        publication = Publication("one", "ward", SCHEMA, LEAST, ledger, withdrawals, self.clock, attachments)
        self.network = AggregateNetwork("one", "ward", SCHEMA, engine, LEAST, self.clock, publication, withdrawals)
        await self.network.open()
        self.advertiser = Advertiser(self.network, self.registry, KEY, self.clock)  # type: ignore[arg-type]

    async def settle(self) -> None:
        """Let the advertiser do what is to be done now."""
        while True:
            wait = await self.advertiser.step()
            if wait > 1 and not self.network.stirred.is_set():
                return
            self.clock.advance(wait)

    def held(self) -> list[Held]:
        return list(self.network.publication._ledger.state.held.values())

    def index(self) -> EpochIndex:
        body = self.network.publication.index
        assert body is not None
        document = orjson.loads(body)
        verify_document(document, KEY.public)
        return EpochIndex.from_document(document)

    def sizes(self) -> list[int]:
        """Of all atoms shown."""
        found: list[int] = []
        index = self.index()
        home = Home("ward", "one", SCHEMA.space, D, index.step)
        for entry in index.pages:
            shown = self.network.publication.shown(entry.digest)
            assert shown is not None
            assert digest_of(shown.body) == entry.digest
            page = read_page(shown.body, home, LEAST)
            assert page.counts() == entry.counts
            found += page.sizes.tolist()
        return found


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest_asyncio.fixture
async def house(tmp_path: Path, clock: ManualClock) -> Any:
    writer = Writer()
    made = House(tmp_path, clock, writer)
    await made.open()
    yield made
    await made.network.close()
    writer.close()


async def test_atoms_are_published_and_the_coverage_is_made_of_them(house: House) -> None:
    await house.network.deposit(numbered([packet(i) for i in range(80)]))
    await house.settle()
    assert sum(house.sizes()) == 80
    index = house.index()
    coverage = house.registry.coverages[-1]
    assert {region.id for region in coverage.regions} == {page.digest for page in index.pages}
    assert index.serial == coverage.serial == house.network.serial
    assert (coverage.packets, coverage.uncovered) == (80, 0)
    for region in coverage.regions:
        places = np.concatenate([region.centre, region.lo, region.hi]) / index.step
        assert (places[D:] == np.rint(places[D:])).all()  # boxes end at centres, which are on the public grid
        assert min(region.counts.values()) >= LEAST


async def test_arrivals_wait_uncovered_and_show_in_nothing(house: House) -> None:
    await house.network.deposit(numbered([packet(i) for i in range(60)]))
    await house.settle()
    before, told, serial = house.network.publication.index, house.network.told(), house.registry.serial
    report = await house.network.deposit(numbered([packet(i) for i in range(100, 100 + LEAST - 1)]))
    assert (report.accepted, report.covered) == (LEAST - 1, 0)
    await house.settle()
    assert house.network.uncovered == LEAST - 1
    assert house.network.publication.index == before
    assert house.registry.serial == serial
    assert house.network.told() == told
    await house.network.deposit(numbered([packet(i) for i in range(200, 230)]))
    await house.settle()
    assert house.network.uncovered < LEAST
    assert house.network.told()["uncovered"] == 0
    assert sum(house.sizes()) == house.network.told()["packets"] == 60 + 34 - house.network.uncovered


async def test_who_withdraws_takes_the_whole_atom_along(house: House) -> None:
    await house.network.deposit(numbered([packet(i) for i in range(60)]))
    await house.settle()
    sizes, epoch = house.sizes(), house.index().epoch
    house.registry.down = True  # the atom goes, whether the registry hears of it or not
    await house.network.withdraw(packet(7).node)
    await house.advertiser.step()
    house.clock.advance(1)
    await house.advertiser.step()
    assert house.index().epoch == epoch + 1
    assert len(house.sizes()) == len(sizes) - 1
    assert len(str(house.network.receipt(packet(7).node))) == 64
    house.registry.down = False
    house.clock.advance(1)
    await house.settle()
    assert house.index().serial == house.registry.serial
    assert house.network.uncovered == sum(sizes) - sum(house.sizes()) - 1 >= LEAST - 1


async def test_a_restart_changes_nothing(house: House) -> None:
    await house.network.deposit(numbered([packet(i) for i in range(60)]))
    await house.settle()
    before = house.index()
    await house.network.close()
    await house.open()
    await house.settle()
    after = house.index()
    assert (after.epoch, after.pages) == (before.epoch, before.pages)
    assert after.serial == house.registry.serial > before.serial


class Weights:
    """A table: how many persons there are by action, and the sum of what is known of them."""

    name = "weights"

    def part(self, atom: Atom, members: Sequence[Packet]) -> bytes:
        assert atom.size == len(members)
        return orjson.dumps([atom.action, len(members), sum(member.time for member in members)])

    def bound(self, atoms: Sequence[tuple[Atom, bytes]]) -> dict[int, bytes]:  # noqa: ARG002
        return {}

    def table(self, atoms: Sequence[tuple[Atom, bytes]]) -> bytes | None:
        return orjson.dumps([orjson.loads(part) for _, part in atoms]) if atoms else None


async def test_tables_go_with_an_epoch_and_change_by_whole_atoms(house: House) -> None:
    await house.network.close()
    await house.open(Weights())
    await house.network.deposit(numbered([packet(i) for i in range(60)]))
    await house.settle()

    def table() -> list[list[Any]]:
        entry = house.index().tables["weights"]
        shown = house.network.publication.shown(entry.digest)
        assert shown is not None
        assert (digest_of(shown.body), len(shown.body)) == (entry.digest, entry.octets)
        found: list[list[Any]] = orjson.loads(shown.body)
        return found

    before = table()
    assert [size for _, size, _ in before] == [each.atom.size for each in house.held()]
    await house.network.deposit(numbered([packet(i, seq=2, time=99.0) for i in range(30)]))
    await house.network.withdraw(packet(7).node)
    await house.settle()
    after = table()
    assert len(after) == len(before) - 1
    assert all(each in before for each in after)  # of who changed, too, what was said first
    await house.network.close()
    await house.open(Weights())
    await house.settle()
    assert table() == after


async def test_no_second_moments_of_persons_are_shown_but_those_of_their_atoms(house: House) -> None:
    await house.network.deposit(numbered([packet(i) for i in range(60)]))
    await house.settle()
    await Tabulator(house.network, KEY, house.clock).step()
    assert house.network.moments is None


async def test_a_backup_does_not_bring_back_who_has_left(house: House) -> None:
    await house.network.deposit(numbered([packet(i) for i in range(60)]))
    await house.settle()
    kept = [await house.network._engine.get(packet(i).node) for i in range(60)]
    await house.network.withdraw(packet(7).node)
    await house.settle()
    serial = house.registry.serial
    await house.network.close()
    for file in (house.home / "store").iterdir():
        file.unlink()
    restored = EmbeddedEngine("one", D, house.home / "store", house.writer)
    await restored.open()
    await restored.keep_note("space", SCHEMA.space)
    await restored.put([(Packet.from_cbor(data), data) for data in kept if data is not None])
    await restored.close()
    await house.open()
    assert house.network.count == 59
    await house.settle()
    assert house.registry.serial > serial
    assert sum(house.sizes()) < 60
    stored = await house.network._engine.get(packet(7).node)
    assert stored is not None
    assert Packet.from_cbor(stored).tombstone
    assert (await house.network.deposit(numbered([packet(7)]))).stale == 1
    assert (await house.network.deposit(numbered([packet(7, seq=9)]))).accepted == 1  # of his own will


async def test_a_ledger_that_was_set_back_is_refused(house: House, tmp_path: Path) -> None:
    await house.network.deposit(numbered([packet(i) for i in range(60)]))
    await house.settle()
    await house.network.close()
    for file in (house.home / "atoms").iterdir():
        file.unlink()
    with pytest.raises(Conflict, match="must not be restored"):
        await house.open()
    log = house.home / "withdrawn" / "one"
    log.unlink()
    await house.open()


@pytest_asyncio.fixture
async def served(house: House) -> Any:
    await house.network.deposit(numbered([packet(i) for i in range(60)]))
    await house.settle()
    plain_schema = replace(SCHEMA, release="packets")
    engine = EmbeddedEngine("two", D, house.home / "two", house.writer)
    plain = Network("two", "ward", plain_schema, engine, 1, house.clock)
    await plain.open()
    server = HttpServer(network_app({"one": house.network, "two": plain}), "127.0.0.1", 0)
    await server.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
        yield session
    await server.close()
    await plain.close()


async def test_pages_are_served_by_their_digest(house: House, served: aiohttp.ClientSession) -> None:
    async with served.get("/one/v1/atoms") as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        index = EpochIndex.from_document(orjson.loads(await response.read()))
    assert index.pages == house.index().pages
    for entry in index.pages:
        async with served.get(f"/one/v1/atoms/{entry.digest}") as response:
            body = await response.read()
            assert response.status == 200
            assert digest_of(body) == entry.digest
            assert len(body) == entry.octets
            assert response.headers["ETag"] == f'"{entry.digest}"'
            assert "immutable" in response.headers["Cache-Control"]


async def test_nothing_else_is_told(house: House, served: aiohttp.ClientSession) -> None:
    node = node_text(packet(3).node)
    question = {"space": SCHEMA.space.hex(), "fingerprint": packet(3).fingerprint.tolist(), "k": 1}
    for method, path, status in (
        ("POST", "/one/v1/nearest", 403),
        ("GET", f"/one/v1/packets/{node}", 403),
        ("GET", "/two/v1/atoms", 403),
        ("GET", "/one/v1/atoms/" + "0" * 64, 404),
        ("GET", "/one/v1/atoms/..%2f..%2fstore", 404),
    ):
        async with served.request(method, path, json=question if method == "POST" else None) as response:
            assert response.status == status, path
            assert response.content_type == "application/problem+json"
    async with served.delete(f"/one/v1/packets/{node}") as response:
        assert response.status == 200
        told = orjson.loads(await response.read())
    assert told["receipt"] == house.network.receipt(packet(3).node)
    with pytest.raises(UnknownName):
        await house.network.withdraw(packet(3).node)
