"""What was published is on the disk: steps for secondaries, and the last version to go on from."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from sample_zones import DOMAINS, NAMING, ORIGIN, SERIAL, entry, publication, tree

from registry.dns.wire import SOA
from registry.errors import ConfigError, StorageFull
from registry.publishing.history import History
from registry.zones.delta import Record
from registry.zones.zone import Ttls, Zone, domain_zone, origin_zone

TTLS = Ttls()
APEX = NAMING.apex


def records(zone: Zone) -> set[Record]:
    return {(owner, each.rtype, ttl, rdata) for owner, each in zone.rrsets() for ttl, rdata in each.rdatas()}


def versions(amount: int) -> list[Zone]:
    """Of one domain, each changed in its networks; the third and the fourth in their cells."""
    zones: list[Zone] = []
    for turn in range(amount):
        said = publication(
            generations={17: tree(2 if turn == 2 else 1)},
            networks={"psu-00": entry(serial=turn), f"psu-{turn % 3:02}x": entry(endpoints=())},
        )
        zones.append(domain_zone(said, SERIAL + 3 * turn, TTLS, DOMAINS, zones[-1] if zones else None))
    return zones


def origin(serial: int) -> Zone:
    return origin_zone(ORIGIN, DOMAINS, serial, TTLS)


def fill(history: History, zones: list[Zone], before: Zone | None = None) -> None:
    for zone in zones:
        history.append([(before and origin(before.serial), origin(zone.serial)), (before, zone)])
        before = zone


def test_what_was_published_is_there_after_a_restart(tmp_path: Path) -> None:
    zones = versions(6)
    history = History(tmp_path)
    assert (history.zones, history.serial) == ({}, 0)
    fill(history, zones)
    steps = history.since(APEX, SERIAL + 6)
    history.close()
    again = History(tmp_path)
    assert again.serial == zones[-1].serial
    assert set(again.zones) == {APEX, ORIGIN}
    assert again.zones[APEX].soa == zones[-1].soa
    assert again.zones[APEX].ttls == TTLS
    assert records(again.zones[APEX]) == records(zones[-1])
    assert again.zones[APEX].branches.keys() >= {b"", b"\x03net", b"\x03g17"}
    assert again.since(APEX, SERIAL + 6) == steps
    assert steps is not None
    assert [(step.before - SERIAL, step.after - SERIAL) for step in steps] == [(6, 9), (9, 12), (12, 15)]
    later = domain_zone(publication(), SERIAL + 50, TTLS, DOMAINS)
    again.append([(again.zones[APEX], later)])
    told = again.since(APEX, SERIAL + 6)
    assert told is not None
    assert len(told) == 4
    again.close()


def test_steps_lead_from_version_to_version() -> None:
    zones = versions(6)
    history = History()
    fill(history, zones)
    for start, zone in enumerate(zones):
        held = records(zone)
        steps = history.since(APEX, zone.serial)
        assert steps is not None
        assert len(steps) == len(zones) - 1 - start
        for step in steps:
            assert {(r[0], r[1]) for r in step.removed + step.added} & {(r[0], SOA) for r in held} == set()
            assert set(step.removed) <= held
            held = (held - set(step.removed)) | set(step.added)
        assert {r for r in held if r[1] != SOA} == {r for r in records(zones[-1]) if r[1] != SOA}
    assert history.since(APEX, SERIAL + 1) is None
    assert history.since("elsewhere.", SERIAL) is None


def test_a_file_cut_anywhere_is_good_up_to_there(tmp_path: Path) -> None:
    history = History(tmp_path)
    zones = [origin(SERIAL + turn) for turn in range(4)]
    before = None
    ends = [len(b"kindred history 1\n")]
    for zone in zones:
        history.append([(before, zone)])
        before = zone
        ends.append((tmp_path / "zones.log").stat().st_size)
    history.close()
    whole = (tmp_path / "zones.log").read_bytes()
    assert len(whole) == ends[-1]
    for cut in range(len(whole) + 1):
        (tmp_path / "zones.log").write_bytes(whole[:cut])
        again = History(tmp_path)
        known = sum(end <= cut for end in ends[1:])
        assert again.serial == (SERIAL + known - 1 if known else 0)
        if known:
            assert records(again.zones[ORIGIN]) == records(zones[known - 1])
            again.append([(again.zones[ORIGIN], origin(SERIAL + 100))])
            again.close()
            again = History(tmp_path)
            assert again.serial == SERIAL + 100
        again.close()


def test_a_spoilt_octet_costs_no_more_than_what_follows(tmp_path: Path) -> None:
    history = History(tmp_path)
    fill(history, [origin(SERIAL)][:0])
    zones = [origin(SERIAL + turn) for turn in range(3)]
    before = None
    ends = []
    for zone in zones:
        history.append([(before, zone)])
        before = zone
        ends.append((tmp_path / "zones.log").stat().st_size)
    history.close()
    whole = (tmp_path / "zones.log").read_bytes()
    for place in range(len(whole)):
        (tmp_path / "zones.log").write_bytes(whole[:place] + bytes([whole[place] ^ 0x11]) + whole[place + 1 :])
        again = History(tmp_path)
        known = sum(end <= place for end in ends)
        assert again.serial == (SERIAL + known - 1 if known else 0)
        again.close()


def test_written_anew_it_tells_the_same(tmp_path: Path) -> None:
    zones = versions(6)
    history = History(tmp_path)
    fill(history, zones[:4])
    grown = (tmp_path / "zones.log").stat().st_size
    for _ in range(3):
        history.rewrite()
    fill(history, zones[4:], zones[3])
    steps = history.since(APEX, SERIAL)
    history.close()
    assert (tmp_path / "zones.log").stat().st_size < 3 * grown
    again = History(tmp_path)
    assert records(again.zones[APEX]) == records(zones[-1])
    assert again.since(APEX, SERIAL) == steps
    again.close()


def test_what_is_appended_while_it_is_written_anew_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zones = versions(5)
    history = History(tmp_path)
    fill(history, zones[:3])
    really = os.fsync
    meanwhile = [lambda: fill(history, zones[3:], zones[2])]

    def fsync(handle: int) -> None:
        really(handle)
        if meanwhile:
            meanwhile.pop()()

    monkeypatch.setattr(os, "fsync", fsync)
    history.rewrite()
    monkeypatch.undo()
    assert not meanwhile
    history.close()
    again = History(tmp_path)
    assert again.serial == zones[-1].serial
    assert records(again.zones[APEX]) == records(zones[-1])
    steps = again.since(APEX, SERIAL)
    assert steps is not None
    assert len(steps) == 4
    again.close()


def test_a_full_disk_publishes_nothing_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zones = versions(4)
    history = History(tmp_path)
    fill(history, zones[:2])
    really = os.write

    def write(handle: int, data: bytes) -> int:
        if len(data) > 100:
            return really(handle, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(StorageFull, match="nothing was published"):
            history.append([(zones[1], zones[2])])
    assert history.since(APEX, zones[1].serial) == ()
    fill(history, zones[2:], zones[1])
    history.close()
    again = History(tmp_path)
    assert records(again.zones[APEX]) == records(zones[-1])
    again.close()


def test_the_oldest_steps_are_dropped(tmp_path: Path) -> None:
    zones = versions(30)
    history = History(tmp_path, limit=20_000)
    fill(history, zones)
    assert history.since(APEX, SERIAL) is None
    kept = history.since(APEX, zones[-4].serial)
    assert kept is not None
    assert len(kept) == 3
    history.rewrite()
    assert (tmp_path / "zones.log").stat().st_size < 60_000
    history.close()


def test_a_step_of_a_whole_tree_is_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.publishing.history.MAX_STEP", 2)
    first, second = versions(2)
    other = domain_zone(publication(generations={18: tree(6)}, current=18), SERIAL + 9, TTLS, DOMAINS, second)
    history = History(tmp_path)
    fill(history, [first, second])
    assert history.grown, "the whole of it is owed to the file"
    history.rewrite()
    assert not history.grown
    history.append([(second, other)])
    assert history.since(APEX, second.serial) is None
    assert history.grown
    history.close()
    unfinished = History(tmp_path)
    assert APEX not in unfinished.zones, "rather nothing than something old"
    assert unfinished.serial == other.serial
    unfinished.close()


def test_what_does_not_count_is_forgotten(tmp_path: Path) -> None:
    zones = versions(3)
    history = History(tmp_path)
    fill(history, zones)
    history.restart()
    assert history.since(APEX, SERIAL) is None
    fill(history, zones[:1])
    history.close()
    again = History(tmp_path)
    assert records(again.zones[APEX]) == records(zones[0])
    again.close()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(ConfigError, match=r"zones\.log"):
        History(tmp_path / "file")
