"""A registry that starts again goes on where it was, whatever ended it; what it is not sure of it makes anew."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sample_members import ORIGIN, Registry, coverage, open_registry, region, schema, signed

from registry.clock import ManualClock, SystemClock
from registry.dns.wire import SVCB, name_to_wire
from registry.geometry.cell import Naming
from registry.geometry.living import LEAVING
from registry.geometry.region import Region
from registry.publishing.journal import Journal
from registry.zones.record import decode_cell
from registry.zones.zone import Zone

CRASH = Naming("crash.vehicles", ORIGIN)
KEEP_S = 10 + 60 + 30
MARGIN_S = 30
ACTIONS = ("no", "yes")

LOADED = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from sample_members import open_registry, region, signed
from registry.clock import SystemClock
from registry.publishing.publisher import PublisherTimes

async def main():
    clock = SystemClock()
    registry = open_registry(Path(sys.argv[1]), clock, PublisherTimes(coalesce_s=0.01))
    publishing = asyncio.create_task(registry.publisher.run())
    serial = registry.enrolment.serial("north")
    while True:
        serial += 1
        regions = tuple(region(f"r{i}", i + 0.01 * serial) for i in range(30))
        registry.enrolment.cover("north", signed("north", serial, clock.now(), regions=regions))
        registry.publisher.wake()
        published = await registry.publisher.published("north", serial)
        print(serial, published, flush=True)

asyncio.run(main())
"""


def crash_zone(registry: Registry[ManualClock] | Registry[SystemClock]) -> Zone:
    return registry.publisher.zones().by_apex[name_to_wire(CRASH.apex)]


def shown(registry: Registry[ManualClock] | Registry[SystemClock], network: str) -> list[Region]:
    """The regions of a network that the current generation leads to, from its root down."""
    number = registry.publisher.state("crash.vehicles").generation
    zone, found = crash_zone(registry), []
    waiting = [CRASH.cell(number, ())]
    while waiting:
        labels = name_to_wire(waiting.pop()).removesuffix(name_to_wire(CRASH.apex))
        [cell] = zone.published(labels) or ()
        assert cell.rtype == SVCB
        records = decode_cell([rdata for _, rdata in cell.rdatas()], CRASH, number, ACTIONS, 2)
        waiting += [CRASH.cell(number, record.child) for record in records if record.child is not None]
        found += [record.region for record in records if record.network == network]
    return found


def names(regions: list[Region]) -> set[str]:
    return {each.id for each in regions} - {LEAVING}


async def settle(registry: Registry[ManualClock], seconds: float = 2.0) -> None:
    for _ in range(round(seconds * 2)):
        registry.clock.advance(0.5)
        await registry.publisher.tick()


async def started(directory: Path, clock: ManualClock) -> Registry[ManualClock]:
    """Open, and let it publish."""
    registry = open_registry(directory, clock)
    await registry.publisher.tick()
    await settle(registry)
    return registry


async def publish(registry: Registry[SystemClock]) -> int:
    """Let it publish what it holds; the zone's serial then."""
    running = asyncio.create_task(registry.publisher.run())
    async with asyncio.timeout(20):
        serial = await registry.publisher.published("north", registry.enrolment.serial("north"))
    running.cancel()
    await asyncio.wait([running])
    return serial


def end(registry: Registry[ManualClock] | Registry[SystemClock]) -> None:
    registry.publisher.history.close()
    registry.journal.close()


async def test_steps_from_before_a_restart_lead_to_after_it(tmp_path: Path) -> None:
    clock = ManualClock()
    registry = await started(tmp_path, clock)
    registry.enrolment.cover("north", signed("north", 1, clock.now(), amount=40, lease_s=9999.0))
    await settle(registry)
    zone, number = crash_zone(registry), registry.publisher.state("crash.vehicles").generation
    end(registry)
    clock.advance(5)
    registry = await started(tmp_path, clock)
    registry.enrolment.cover("north", signed("north", 2, clock.now(), amount=41, lease_s=9999.0))
    await settle(registry)
    assert registry.publisher.state("crash.vehicles").generation == number
    assert names(shown(registry, "north")) == {f"r{i}" for i in range(41)}
    steps = registry.publisher.history.since(CRASH.apex, zone.serial)
    assert steps
    held = {(owner, r.rtype, *pair) for owner, r in zone.rrsets() for pair in r.rdatas()}
    for step in steps:
        assert set(step.removed) <= held
        held = (held - set(step.removed)) | set(step.added)
    after = {(owner, r.rtype, *pair) for owner, r in crash_zone(registry).rrsets() for pair in r.rdatas()}
    assert {each for each in held if each[1] != 6} == {each for each in after if each[1] != 6}
    assert sum(len(step.removed) + len(step.added) for step in steps) < 60, "nothing but what changed"
    end(registry)


async def test_a_registry_stopped_while_it_publishes_goes_on_with_its_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SystemClock()
    registry = open_registry(tmp_path, clock)
    registry.enrolment.cover("north", signed("north", 1, clock.now(), lease_s=9999.0))
    await publish(registry)
    number = registry.publisher.state("crash.vehicles").generation
    registry.enrolment.cover("north", signed("north", 2, clock.now(), amount=6, lease_s=9999.0))
    begun, kept, may_end = asyncio.Event(), asyncio.Event(), threading.Event()
    loop, next_serial = asyncio.get_running_loop(), Journal.next_serial

    def slowly(journal: Journal, now: int) -> int:
        loop.call_soon_threadsafe(begun.set)
        assert may_end.wait(20)
        serial = next_serial(journal, now)
        loop.call_soon_threadsafe(kept.set)
        return serial

    with monkeypatch.context() as slow:
        slow.setattr(Journal, "next_serial", slowly)
        running = asyncio.create_task(registry.publisher.run())
        await begun.wait()
        running.cancel()
        await asyncio.sleep(0)  # it is told, and may not end yet
        may_end.set()
        await asyncio.wait([running])
        await kept.wait()
    assert running.cancelled()
    end(registry)
    registry = open_registry(tmp_path, clock)
    await publish(registry)
    assert registry.publisher.state("crash.vehicles").generation == number
    assert names(shown(registry, "north")) == {f"r{i}" for i in range(6)}
    end(registry)


async def test_what_was_leaving_at_a_restart_leaves_a_whole_time_after_it(tmp_path: Path) -> None:
    clock = ManualClock()
    registry = await started(tmp_path, clock)
    registry.enrolment.cover("north", signed("north", 1, clock.now(), lease_s=9999.0))
    await settle(registry)
    moved = tuple(region(f"r{i}", 50.0 + i) for i in range(5))
    registry.enrolment.cover("north", signed("north", 2, clock.now(), regions=moved, lease_s=9999.0))
    await settle(registry, KEEP_S)
    end(registry)
    registry = await started(tmp_path, clock)
    assert names(shown(registry, "north")) == {f"r{i}" for i in range(5)}
    await settle(registry, KEEP_S)
    assert [each.id for each in shown(registry, "north")].count(LEAVING) == 1
    await settle(registry, MARGIN_S + 15)
    assert [each.id for each in shown(registry, "north")].count(LEAVING) == 0
    end(registry)


async def test_coverages_that_changed_meanwhile_are_seen(tmp_path: Path) -> None:
    """Accepted, and the registry ended before it was published; another network is enrolled no more."""
    clock = ManualClock()
    registry = await started(tmp_path, clock)
    for network in ("north", "south"):
        registry.enrolment.cover(network, signed(network, 1, clock.now(), amount=20, lease_s=9999.0))
    await settle(registry)
    number = registry.publisher.state("crash.vehicles").generation
    changed = (*coverage("north", 1, 0.0, 19).regions, region("other", 77.0))
    registry.enrolment.cover("north", signed("north", 2, clock.now(), regions=changed, lease_s=9999.0))
    registry.journal._write(lambda transaction: transaction.delete(b"south", db=registry.journal._networks))
    end(registry)
    registry = await started(tmp_path, clock)
    assert registry.publisher.state("crash.vehicles").generation == number
    assert names(shown(registry, "north")) == {*(f"r{i}" for i in range(19)), "other"}
    assert shown(registry, "south") == []
    end(registry)


async def test_a_history_cut_anywhere_makes_a_new_generation_and_loses_nothing(tmp_path: Path) -> None:
    clock = ManualClock()
    registry = await started(tmp_path, clock)
    for serial in (1, 2):
        registry.enrolment.cover("north", signed("north", serial, clock.now(), amount=2 + serial, lease_s=9999.0))
        await settle(registry, 1)
    state = registry.publisher.state("crash.vehicles")
    end(registry)
    log = tmp_path / "registry" / "history" / "zones.log"
    whole = log.read_bytes()
    last = state
    for cut in [*range(0, len(whole), 211), len(whole) - 1]:
        log.write_bytes(whole[:cut])
        clock.advance(1)
        registry = await started(tmp_path, clock)
        now = registry.publisher.state("crash.vehicles")
        assert now.generation > last.generation
        assert now.serial > last.serial
        assert names(shown(registry, "north")) == {"r0", "r1", "r2", "r3"}
        assert registry.publisher.history.since(CRASH.apex, state.serial) is None
        last = now
        end(registry)
    registry = await started(tmp_path, clock)
    assert registry.publisher.state("crash.vehicles").generation == last.generation, "and goes on with that"
    end(registry)


async def test_where_the_journal_is_lost_no_serial_and_no_generation_is_used_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    registry = await started(tmp_path, clock)
    registry.enrolment.cover("north", signed("north", 1, clock.now(), lease_s=9999.0))
    await settle(registry)
    before = registry.publisher.state("crash.vehicles")
    end(registry)
    (tmp_path / "registry" / "data.mdb").write_bytes(b"")
    earlier = ManualClock(clock.now() - 3600)
    registry = await started(tmp_path, earlier)
    assert "is not in the journal, whose last serial is 0" in caplog.text
    registry.enrolment.cover("north", signed("north", 1, earlier.now(), lease_s=9999.0))
    await settle(registry)
    after = registry.publisher.state("crash.vehicles")
    assert after.generation > before.generation
    assert after.serial > before.serial
    end(registry)


async def test_another_schema_is_another_generation(tmp_path: Path) -> None:
    clock = ManualClock()
    registry = await started(tmp_path, clock)
    registry.enrolment.cover("north", signed("north", 1, clock.now(), lease_s=9999.0))
    await settle(registry)
    before = registry.publisher.state("crash.vehicles")
    end(registry)
    others = dict.fromkeys(("crash.vehicles", "drives"), schema(actions=("no", "yes", "perhaps")))
    registry = open_registry(tmp_path, clock, schemas=others)
    await settle(registry)
    assert registry.publisher.state("crash.vehicles").generation > before.generation
    assert registry.publisher.troubles() == {}
    end(registry)


async def test_a_clock_that_jumps_lets_nothing_go_early(tmp_path: Path) -> None:
    clock = ManualClock()
    registry = await started(tmp_path, clock)
    registry.enrolment.cover("north", signed("north", 1, clock.now(), lease_s=86_400.0))
    await settle(registry)
    moved = tuple(region(f"r{i}", 50.0 + i) for i in range(5))
    registry.enrolment.cover("north", signed("north", 2, clock.now(), regions=moved, lease_s=86_400.0))
    await settle(registry)
    serial = crash_zone(registry).serial
    for jump in (3600.0, -7200.0, 40_000.0):
        clock.jump(jump)
        await settle(registry, 25)
        assert crash_zone(registry).serial > serial
        serial = crash_zone(registry).serial
        assert [each.id for each in shown(registry, "north")].count(LEAVING) == 1
    await settle(registry, KEEP_S + MARGIN_S - 50)
    assert [each.id for each in shown(registry, "north")].count(LEAVING) == 0
    end(registry)


@pytest.mark.parametrize("acknowledgements", [1, 3])
def test_killed_under_load_it_loses_nothing_that_was_acknowledged(tmp_path: Path, acknowledgements: int) -> None:
    acknowledged = (0, 0)
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", LOADED, str(tmp_path), str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(acknowledgements)]
            process.send_signal(signal.SIGKILL)
            for line in [*lines, *process.stdout]:
                if len(line.split()) == 2:
                    serial, published = map(int, line.split())
                    assert (serial, published) > acknowledged
                    assert published > acknowledged[1]
                    acknowledged = serial, published
    registry = open_registry(tmp_path, SystemClock())
    assert registry.enrolment.serial("north") >= acknowledged[0]
    assert asyncio.run(publish(registry)) > acknowledged[1]
    held = registry.enrolment.holding("north")
    assert held is not None
    assert names(shown(registry, "north")) == {each.id for each in held.coverage.regions}
    for each in held.coverage.regions:
        [seen] = [region for region in shown(registry, "north") if region.id == each.id]
        assert abs(seen.centre[0] - each.centre[0]) < 0.01
    end(registry)
