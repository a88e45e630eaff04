"""A network's account of what it covers, and the advertiser that keeps it covered."""

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest

from regional.advertiser import Advertiser
from regional.covering import Covering
from regional.engine import NearestQuery
from regional.engines.embedded.writer import Writer
from regional.packets.admission import Admission
from regional.packets.packet import Packet
from registry.clock import ManualClock
from registry.errors import Conflict, NotGranted, QuestionError, UnknownName
from tests.regional.support import KEY, SCHEMA, D, FakeRegistry, make_network, numbered, packet


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def registry():
    return FakeRegistry()


@pytest.fixture
def writer():
    made = Writer()
    yield made
    made.close()


@pytest.fixture
async def network(tmp_path, writer, clock):
    made = make_network(tmp_path / "one", writer, clock)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def advertiser(network, registry, clock):
    return Advertiser(network, registry, KEY, clock, chance=lambda: 1.0)


async def run_until_quiet(advertiser, clock, network):
    """Let time pass until nothing is pending."""
    for _ in range(50):
        wait = await advertiser.step()
        if not network.pending:
            return
        clock.advance(min(wait, 1.0) + 0.001)
    raise AssertionError("still pending")


async def test_covered_means_covered_by_what_is_published(network, advertiser, registry, clock):
    report = await network.deposit(numbered([packet(i) for i in range(100)]))
    assert (report.accepted, report.covered, report.serial, network.uncovered) == (100, 0, 0, 100)
    await run_until_quiet(advertiser, clock, network)
    assert (network.serial, network.uncovered, network.pending) == (1, 0, False)
    inside = packet(200, point=(3, 3))
    other_action = packet(201, point=(3, 3), action="b")
    far = packet(202, point=(500, 500))
    report = await network.deposit(numbered([inside, other_action, far]))
    assert (report.accepted, report.covered, report.serial) == (3, 1, 1)
    assert network.uncovered == 2
    assert network.pending
    await run_until_quiet(advertiser, clock, network)
    assert (network.serial, network.uncovered) == (2, 0)
    assert sum(region.size for region in registry.coverages[-1].regions) == 103


async def test_bursts_are_waited_for_but_not_for_ever(network, advertiser, registry, clock):
    await advertiser.step()
    assert registry.serial == 1  # the empty coverage: known to be empty is not unknown
    assert registry.coverages[0].regions == ()
    for i in range(9):
        await network.deposit(numbered([packet(i)]))
        await advertiser.step()
        clock.advance(0.4)
    assert registry.serial == 1
    clock.advance(0.2)
    await advertiser.step()
    assert registry.serial == 2
    for i in range(10, 30):
        await network.deposit(numbered([packet(i, point=(i * 10, 0))]))
        await advertiser.step()
        clock.advance(0.4)
    assert registry.serial >= 3  # after five seconds of an unending burst


async def test_small_changes_inside_do_not_advertise_anew_but_drift_does(network, advertiser, registry, clock):
    await network.deposit(numbered([packet(i) for i in range(100)]))
    await run_until_quiet(advertiser, clock, network)
    await network.deposit(numbered([packet(i, seq=2) for i in range(10)]))
    assert not network.pending
    await network.deposit(numbered([packet(50, seq=2)]))
    assert network.pending


async def test_a_lease_is_renewed_and_a_lost_coverage_sent_again(network, advertiser, registry, clock):
    wait = await advertiser.step()
    assert wait == pytest.approx(40)
    clock.advance(40)
    assert await advertiser.step() == pytest.approx(40)
    assert [each["serial"] for each in registry.renewals] == [1]
    registry.serial = 7  # as if another copy of the network had advertised
    clock.advance(40)
    await advertiser.step()
    await advertiser.step()
    assert registry.serial == 8
    assert network.serial == 8


async def test_the_serial_grows_beyond_what_the_registry_knows(network, advertiser, registry, clock):
    registry.serial = 41
    await advertiser.step()
    assert registry.serial == 42


async def test_an_unreachable_registry_is_tried_again_with_growing_pauses(network, advertiser, registry, clock):
    registry.down = True
    waits = []
    for _ in range(8):
        waits.append(await advertiser.step())
        clock.advance(waits[-1])
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    await network.deposit(numbered([packet(1)]))  # must not hurry it
    assert await advertiser.step() == 30.0
    registry.down = False
    clock.advance(30.0)
    await run_until_quiet(advertiser, clock, network)
    assert network.uncovered == 0


async def test_strays_while_the_lease_cannot_be_renewed_are_advertised(network, advertiser, registry, clock):
    await advertiser.step()
    registry.down = True
    clock.advance(40)
    await advertiser.step()
    await network.deposit(numbered([packet(1)]))
    registry.down = False
    await run_until_quiet(advertiser, clock, network)
    assert registry.serial == 2


async def test_deposits_during_publication_are_judged_by_the_new_coverage(network, advertiser, registry, clock):
    await network.deposit(numbered([packet(i) for i in range(20)]))

    async def meanwhile():
        registry.before_put = None
        moved = packet(5, seq=2, point=(900, 900))
        report = await network.deposit(numbered([packet(300, point=(2, 1)), moved]))
        assert report.covered == 0  # nothing is published yet

    registry.before_put = meanwhile
    await advertiser.step()
    assert network.uncovered == 1
    assert network.pending
    await run_until_quiet(advertiser, clock, network)
    assert network.uncovered == 0


async def test_a_restart_keeps_its_regions_and_raises_the_serial(
    network, advertiser, registry, clock, tmp_path, writer
):
    await network.deposit(numbered([packet(i) for i in range(60)]))
    await run_until_quiet(advertiser, clock, network)
    await network.close()
    again = make_network(tmp_path / "one", writer, clock)
    await again.open()
    assert again.published is None
    assert again.pending
    registry.serial = 0  # even where the registry has forgotten everything
    clock.advance(1)
    await Advertiser(again, registry, KEY, clock).step()
    assert again.serial == 2
    before, after = registry.coverages[-2:]
    assert [r.radius for r in before.regions] == [r.radius for r in after.regions]
    assert again.uncovered == 0
    await again.close()


async def test_the_lonely_stay_uncovered_where_a_cohort_is_asked_for(tmp_path, writer, clock, registry):
    network = make_network(tmp_path / "two", writer, clock, min_cohort=5)
    await network.open()
    await network.deposit(numbered([packet(i) for i in range(60)] + [packet(99, point=(900, 900))]))
    advertiser = Advertiser(network, registry, KEY, clock)
    await run_until_quiet(advertiser, clock, network)
    assert network.uncovered == 1
    assert registry.coverages[-1].uncovered == 1
    assert await advertiser.step() > 30  # one lonely packet does not make it try for ever
    await network.close()


async def test_withdrawal_leaves_nothing_but_the_seq(network):
    await network.deposit(numbered([packet(1, seq=4), packet(2)]))
    assert await network.withdraw(packet(1).node) == 5
    with pytest.raises(UnknownName):
        await network.get(packet(1).node)
    with pytest.raises(UnknownName):
        await network.withdraw(packet(1).node)
    with pytest.raises(UnknownName):
        await network.withdraw(b"nobody")
    stored = Packet.from_cbor(await network._engine.get(packet(1).node))
    assert (stored.tombstone, stored.fingerprint.size, stored.action, dict(stored.outcomes)) == (True, 0, None, {})
    report = await network.deposit(numbered([packet(1, seq=5)]))
    assert report.stale == 1
    assert network.count == 1


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"domain": "tools"}, "domain"),
        ({"network": "two"}, "network"),
        ({"space8": b"12345678"}, "space"),
        ({"action": "c"}, "action"),
        ({"fingerprint": np.zeros(D + 1, dtype=np.float32)}, "fingerprint"),
        ({"outcomes": {"nope": 1.0}}, "outcomes.nope"),
        ({"outcomes": {"broke": 0.5}}, "outcomes.broke"),
        ({"outcomes": {"cost": 1e6}}, "outcomes.cost"),
        ({"outcomes": {"cost": (1.0, True)}}, "outcomes.cost"),
        ({"outcomes": {"life": 3.0}}, "outcomes.life"),
        ({"outcomes": {"life": (-3.0, True)}}, "outcomes.life"),
        ({"weight": -1.0}, "weight"),
    ],
)
async def test_what_does_not_fit_is_rejected_by_name(network, changed, path):
    bad = replace(packet(7), **changed)
    report = await network.deposit(numbered([packet(1), bad, packet(2)]))
    assert report.accepted == 2
    assert [(each.line, each.path) for each in report.rejected] == [(2, path)]
    report = await network.deposit(numbered([packet(3), bad]), atomic=True)
    assert (report.accepted, len(report.rejected)) == (0, 1)
    assert network.count == 2


@pytest.mark.parametrize(
    "query",
    [
        {"k": 0},
        {"k": -1},
        {"k": 1_000_000},
        {"within": -1.0},
        {"within": float("nan")},
        {"actions": ("c",)},
        {"within": {"c": 1.0}},
        {"fingerprint": np.zeros(D + 1, dtype=np.float32)},
    ],
)
async def test_impossible_questions_are_refused(network, query):
    asked = {"fingerprint": np.zeros(D, dtype=np.float32), "k": 5, **query}
    with pytest.raises(QuestionError):
        await network.nearest(NearestQuery(**asked))


async def test_where_aggregates_are_released_no_question_reaches_the_packets(tmp_path, writer, clock):
    network = make_network(tmp_path / "two", writer, clock, schema=replace(SCHEMA, release="aggregates"))
    await network.open()
    with pytest.raises(NotGranted):
        await network.nearest(NearestQuery(np.zeros(D, dtype=np.float32), 5))
    with pytest.raises(NotGranted):
        await network.get(b"x")
    await network.close()


async def test_a_store_of_another_space_is_not_opened(network, tmp_path, writer, clock):
    await network.close()
    other = make_network(tmp_path / "one", writer, clock, schema=replace(SCHEMA, space=bytes(32)))
    with pytest.raises(Conflict, match="deposit them anew"):
        await other.open()
    again = make_network(tmp_path / "one", writer, clock)
    await again.open()
    await again.close()


async def test_a_large_deposit_is_worked_on_beside_the_event_loop(network, advertiser, monkeypatch):
    threads = {}

    def watched(owner, name):
        original = getattr(owner, name)

        def work(*inputs):
            threads.setdefault(name, set()).add(threading.current_thread())
            return original(*inputs)

        monkeypatch.setattr(owner, name, work)

    await network.deposit(numbered([packet(1)]))
    await advertiser.step()
    watched(Admission, "check")
    watched(Packet, "to_cbor")
    watched(Covering, "covers")
    report = await network.deposit(numbered([packet(i % 100, seq=2 + i // 100) for i in range(2000)]))
    assert report.accepted + report.stale == 2000
    assert set(threads) == {"check", "to_cbor", "covers"}
    assert all(threading.main_thread() not in used for used in threads.values())


async def test_notes_are_taken_in_the_order_of_storing(network, advertiser, monkeypatch):
    """A small change to a node is not overtaken by a large batch from before it, whose account takes longer."""
    await network.deposit(numbered([packet(i) for i in range(1000)]))
    await advertiser.step()
    held, go = threading.Event(), threading.Event()
    original = Covering.covers

    def slow(covering, points, actions):
        if len(points) > 500:
            held.set()
            go.wait(10)
        return original(covering, points, actions)

    monkeypatch.setattr(Covering, "covers", slow)
    large = asyncio.create_task(network.deposit(numbered([packet(i, seq=2) for i in range(1000)])))
    await asyncio.to_thread(held.wait, 10)
    far = asyncio.create_task(network.deposit(numbered([packet(1, seq=3, point=(900, 900))])))
    withdrawn = asyncio.create_task(network.withdraw(packet(2).node))
    for _ in range(100):
        await asyncio.sleep(0)
    go.set()
    assert (await large).covered == 1000
    assert (await far).covered == 0
    await withdrawn
    assert network.uncovered == 1


async def test_what_is_stored_is_noted_though_nobody_waits_any_more(network, advertiser, monkeypatch):
    await network.deposit(numbered([packet(i) for i in range(50)]))
    await advertiser.step()
    assert not network.pending
    stored, go = asyncio.Event(), asyncio.Event()
    put = network._engine.put

    async def slow(packets):
        results = await put(packets)
        stored.set()
        await go.wait()
        return results

    monkeypatch.setattr(network._engine, "put", slow)
    asker = asyncio.create_task(network.deposit(numbered([packet(7, seq=2, point=(900, 900))])))
    await stored.wait()
    asker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asker
    go.set()
    await network.close()
    assert (network.uncovered, network.pending) == (1, True)
    await network.open()
