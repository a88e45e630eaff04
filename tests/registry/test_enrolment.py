"""Only what the enrolled key signed, for the granted domain, in its space, and newer than what is held, is taken."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_members import (
    KEYS,
    NETWORKS,
    SCHEMA,
    Registry,
    coverage,
    members,
    open_registry,
    region,
    renewal,
    schema,
    signed,
)

from registry.clock import ManualClock
from registry.errors import (
    ConfigError,
    Conflict,
    Corrupt,
    DocumentError,
    KindredError,
    NotGranted,
    RegionError,
    SignatureError,
    UnknownName,
)
from registry.jsontext import canonical, loads
from registry.keys import SigningKey, sign_document
from registry.publishing.enrolment import DomainEntry, Enrolment
from registry.publishing.journal import Entry
from registry.publishing.member import Member


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry[ManualClock]]:
    opened = open_registry(tmp_path, ManualClock())
    yield opened
    opened.journal.close()


def over_the_wire(document: dict[str, Any]) -> Any:
    return loads(canonical(document))


def test_a_signed_coverage_is_held(registry: Registry[ManualClock]) -> None:
    now = registry.clock.now()
    assert registry.enrolment.cover("north", over_the_wire(signed("north", 4, now))) == 4
    held = registry.enrolment.holding("north")
    assert held is not None
    assert held.coverage.serial == registry.enrolment.serial("north") == 4
    assert list(registry.enrolment.holdings("crash.vehicles")) == ["north"]
    assert registry.enrolment.holdings("drives") == {}


def test_a_coverage_by_another_key_is_refused(registry: Registry[ManualClock]) -> None:
    forged = coverage("north", 1, registry.clock.now()).document(KEYS["stranger"])
    with pytest.raises(SignatureError, match="enrolled is"):
        registry.enrolment.cover("north", forged)
    with pytest.raises(SignatureError, match="does not verify"):
        registry.enrolment.cover("north", {**forged, "signer": signed("north", 1, 0.0)["signer"]})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_altered_byte_is_accepted(registry: Registry[ManualClock], data: st.DataObject) -> None:
    original = canonical(signed("north", 9, registry.clock.now(), amount=2))
    place = data.draw(st.integers(0, len(original) - 1))
    altered = bytearray(original)
    altered[place] ^= data.draw(st.integers(1, 255))
    try:
        document = loads(bytes(altered))
    except DocumentError:
        return
    if canonical(document) == original:  # white space, or another writing of the same number
        return
    with pytest.raises(KindredError):
        registry.enrolment.cover("north", document)
    assert registry.enrolment.serial("north") == 0


def test_who_is_not_enrolled_is_unknown(registry: Registry[ManualClock]) -> None:
    with pytest.raises(UnknownName, match="the operator"):
        registry.enrolment.cover("nobody", {})
    with pytest.raises(UnknownName, match=r"crash\.vehicles"):
        registry.enrolment.domain("medicine")


def test_ungranted_claims_are_refused_by_name(registry: Registry[ManualClock]) -> None:
    now = registry.clock.now()
    with pytest.raises(NotGranted, match=r"'crash\.vehicles', not for 'drives'"):
        registry.enrolment.cover("north", signed("north", 1, now, domain="drives"))
    other = coverage("south", 1, now).document(KEYS["north"])
    with pytest.raises(NotGranted, match="'south'"):
        registry.enrolment.cover("north", other)
    with pytest.raises(Conflict, match="space") as caught:
        registry.enrolment.cover("north", signed("north", 1, now, space="0" * 64))
    assert caught.value.where["space"] == SCHEMA.space.hex()
    assert registry.enrolment.holding("north") is None


def test_another_schema_of_the_same_space_is_taken_and_recorded(registry: Registry[ManualClock]) -> None:
    registry.enrolment.cover("north", signed("north", 1, registry.clock.now(), schema="ab" * 32))
    held = registry.enrolment.holding("north")
    assert held is not None
    assert held.coverage.schema == "ab" * 32


def test_serials_only_grow_and_a_repetition_is_answered_alike(registry: Registry[ManualClock]) -> None:
    now = registry.clock.now()
    document = signed("north", 7, now)
    registry.enrolment.cover("north", document)
    registry.clock.advance(100)
    assert registry.enrolment.cover("north", copy.deepcopy(document)) == 7
    for serial in (6, 7):
        with pytest.raises(Conflict, match="does not exceed 7") as caught:
            registry.enrolment.cover("north", signed("north", serial, now + 50, amount=3))
        assert caught.value.where["serial"] == 7
    held = registry.enrolment.holding("north")
    assert held is not None
    assert held.until == now + 120, "a repetition prolongs nothing"


@pytest.mark.parametrize(
    ("issued", "lease_s", "message"),
    [(61, 120, "in the future"), (-121, 120, "is over"), (0, 0.5, "at least 1"), (-11, 3600, "before")],
)
def test_times_must_be_credible(registry: Registry[ManualClock], issued: float, lease_s: float, message: str) -> None:
    now = registry.clock.now()
    registry.enrolment.cover("north", signed("north", 1, now - 10))
    with pytest.raises((Conflict, DocumentError), match=message):
        registry.enrolment.cover("north", signed("north", 2, now + issued, lease_s=float(lease_s)))
    with pytest.raises((Conflict, DocumentError), match=message):
        registry.enrolment.renew("north", renewal("north", 1, now + issued, lease_s=float(lease_s)))
    assert registry.enrolment.serial("north") == 1


def odd(**changes: Any) -> dict[str, Any]:
    return {"regions": (replace(region("r0", 1.0), **changes),)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (odd(counts={"maybe": 3}), "maybe"),
        (odd(centre=np.full(2, 1e9), lo=np.full(2, 1e9), hi=np.full(2, 1e9)), "beyond 1e"),
        (odd(var=np.full(2, 1e300)), "beyond 1e"),
        (odd(lo=np.full(2, 5.0), hi=np.full(2, 6.0)), "outside its ball"),
        (odd(id="x" * 64 + "é"), "64"),
        (odd(centre=np.zeros(3)), "shape"),
        (odd(radius=-1.0), "radius"),
        (odd(counts={}), "count"),
    ],
)
def test_geometry_that_cannot_be_served_is_refused(
    registry: Registry[ManualClock], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises((RegionError, DocumentError), match=message):
        registry.enrolment.cover("north", signed("north", 1, registry.clock.now(), **changes))
    assert registry.enrolment.serial("north") == 0


def test_regions_below_the_least_cohort_are_refused(registry: Registry[ManualClock]) -> None:
    domains = [DomainEntry("crash.vehicles", schema(min_cohort=3)), DomainEntry("drives", SCHEMA, min_cohort=11)]
    enrolment = Enrolment(domains, members(), registry.journal, registry.clock, "kindred.internal.")
    now = registry.clock.now()
    few: dict[str, Any] = {"regions": (region("r0", 1.0, count=1),)}
    with pytest.raises(RegionError, match="at least 3"):
        enrolment.cover("north", signed("north", 1, now, space=domains[0].schema.space.hex(), **few))
    with pytest.raises(RegionError, match="at least 11"):
        enrolment.cover("west", signed("west", 1, now))


@pytest.mark.parametrize("document", [None, [], "x", 3, {}, {"signer": 1}, {"sig": [], "v": 1}])
def test_what_is_no_document_is_refused(registry: Registry[ManualClock], document: object) -> None:
    with pytest.raises((DocumentError, SignatureError)):
        registry.enrolment.cover("north", document)
    with pytest.raises((DocumentError, SignatureError)):
        registry.enrolment.renew("north", document)


def test_signed_nonsense_is_refused_by_path(registry: Registry[ManualClock]) -> None:
    body = {key: value for key, value in signed("north", 1, 0.0).items() if key != "sig"} | {"regions": "none"}
    with pytest.raises(DocumentError, match="regions"):
        registry.enrolment.cover("north", sign_document(body, KEYS["north"]))


def test_a_lease_lapses_and_a_renewal_takes_it_up(registry: Registry[ManualClock]) -> None:
    now = registry.clock.now()
    registry.enrolment.cover("north", signed("north", 1, now))
    registry.clock.advance(119)
    held = registry.enrolment.holding("north")
    assert held is not None
    assert not held.lapsed(registry.clock)
    registry.clock.advance(1)
    assert held.lapsed(registry.clock)
    assert list(registry.enrolment.holdings("crash.vehicles")) == ["north"], "geometry stays"
    renewed = registry.enrolment.renew("north", renewal("north", 1, now + 120))
    assert not renewed.lapsed(registry.clock)
    assert renewed.until == now + 240


def test_a_lease_runs_from_when_it_was_signed_however_late_it_comes(registry: Registry[ManualClock]) -> None:
    now = registry.clock.now()
    registry.enrolment.cover("north", signed("north", 1, now - 100))
    registry.clock.advance(20)
    held = registry.enrolment.holding("north")
    assert held is not None
    assert held.lapsed(registry.clock)


def test_a_clock_set_back_prolongs_no_lease(registry: Registry[ManualClock]) -> None:
    registry.enrolment.cover("north", signed("north", 1, registry.clock.now() + 50))
    registry.clock.jump(-3600)
    registry.clock.advance(120)
    held = registry.enrolment.holding("north")
    assert held is not None
    assert held.lapsed(registry.clock)


def test_renewals_cannot_be_replayed_or_used_for_another_coverage(registry: Registry[ManualClock]) -> None:
    now = registry.clock.now()
    with pytest.raises(Conflict, match="send the coverage"):
        registry.enrolment.renew("north", renewal("north", 1, now))
    registry.enrolment.cover("north", signed("north", 1, now))
    first, second = renewal("north", 1, now + 1), renewal("north", 1, now + 2)
    registry.enrolment.renew("north", first)
    registry.enrolment.renew("north", second)
    registry.clock.advance(60)
    assert registry.enrolment.renew("north", second).until == now + 120, "received at the start, prolongs nothing now"
    with pytest.raises(Conflict, match="before"):
        registry.enrolment.renew("north", first)
    registry.enrolment.cover("north", signed("north", 2, now + 60))
    with pytest.raises(Conflict, match="renews serial 1, held is 2"):
        registry.enrolment.renew("north", renewal("north", 1, now + 61))
    with pytest.raises(SignatureError):
        registry.enrolment.renew("north", sign_document({**renewal("north", 2, now + 61)}, KEYS["south"]))


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    clock = ManualClock()
    now = clock.now()
    before = open_registry(tmp_path, clock)
    before.enrolment.cover("north", signed("north", 5, now))
    before.enrolment.cover("south", signed("south", 6, now))
    kept = renewal("north", 5, now + 30)
    clock.advance(30)
    before.enrolment.renew("north", kept)
    before.journal.close()
    clock.advance(100)
    after = open_registry(tmp_path, clock)
    held = after.enrolment.holdings("crash.vehicles")
    assert {name: each.lapsed(clock) for name, each in held.items()} == {"north": False, "south": True}
    assert after.enrolment.cover("north", signed("north", 5, now)) == 5
    assert after.enrolment.renew("north", kept).until == now + 150
    with pytest.raises(Conflict):
        after.enrolment.cover("south", signed("south", 5, clock.now()))
    after.journal.close()


def test_after_a_new_key_the_old_coverage_stays_flagged(tmp_path: Path) -> None:
    clock = ManualClock()
    before = open_registry(tmp_path, clock)
    before.enrolment.cover("north", signed("north", 5, clock.now()))
    before.journal.close()
    rotated = {**KEYS, "north": SigningKey(b"n" * 32)}
    after = open_registry(tmp_path, clock, keys=rotated)
    held = after.enrolment.holding("north")
    assert held is not None
    assert held.lapsed(clock)
    with pytest.raises(SignatureError):
        after.enrolment.cover("north", signed("north", 5, clock.now()))
    after.enrolment.cover("north", coverage("north", 6, clock.now()).document(rotated["north"]))
    held = after.enrolment.holding("north")
    assert held is not None
    assert not held.lapsed(clock)
    after.journal.close()


def test_a_stricter_cohort_flags_what_is_held_and_forgets_nothing(tmp_path: Path) -> None:
    clock = ManualClock()
    before = open_registry(tmp_path, clock)
    before.enrolment.cover("north", signed("north", 5, clock.now()))
    before.enrolment.renew("north", renewal("north", 5, clock.now()))
    before.journal.close()
    after = open_registry(tmp_path, clock, schemas={"crash.vehicles": schema(min_cohort=7), "drives": SCHEMA})
    held = after.enrolment.holding("north")
    assert held is not None
    assert held.lapsed(clock)
    assert len(held.coverage.regions) == 5
    with pytest.raises(Conflict, match="send the coverage anew"):
        after.enrolment.renew("north", renewal("north", 5, clock.now() + 1))
    with pytest.raises(RegionError, match="at least 7"):
        after.enrolment.cover("north", signed("north", 6, clock.now()))
    large = (region("r", 0.0, count=4),)
    after.enrolment.cover("north", signed("north", 6, clock.now(), regions=large))
    held = after.enrolment.holding("north")
    assert held is not None
    assert not held.lapsed(clock)
    after.journal.close()


async def test_what_is_flagged_by_a_stricter_cohort_is_published(tmp_path: Path) -> None:
    clock = ManualClock()
    before = open_registry(tmp_path, clock)
    before.enrolment.cover("north", signed("north", 5, clock.now()))
    before.journal.close()
    after = open_registry(tmp_path, clock, schemas={"crash.vehicles": schema(min_cohort=7), "drives": SCHEMA})
    while await after.publisher.tick() > 0:
        clock.advance(1)
    assert after.publisher.state("crash.vehicles").serials == {"north": 5}
    assert after.publisher.state("crash.vehicles").cells == 1
    after.journal.close()


def test_a_new_space_waits_for_new_coverages_above_the_old_serials(tmp_path: Path) -> None:
    clock = ManualClock()
    before = open_registry(tmp_path, clock)
    before.enrolment.cover("north", signed("north", 5, clock.now()))
    assert before.enrolment.withheld("north") is None
    before.journal.close()
    changed = schema(scale=2.0)
    after = open_registry(tmp_path, clock, schemas={"crash.vehicles": changed, "drives": SCHEMA})
    assert after.enrolment.holding("north") is None
    assert "space" in str(after.enrolment.withheld("north"))
    assert after.enrolment.withheld("south") is None
    assert after.enrolment.serial("north") == 5
    with pytest.raises(Conflict, match="does not exceed 5"):
        after.enrolment.cover("north", signed("north", 5, clock.now(), space=changed.space.hex()))
    after.enrolment.cover("north", signed("north", 6, clock.now(), space=changed.space.hex()))
    assert after.enrolment.withheld("north") is None
    after.journal.close()


def test_an_action_that_left_the_schema_stays_as_geometry(tmp_path: Path) -> None:
    """Its packets are still there: they count among those without an action."""
    clock = ManualClock()
    before = open_registry(tmp_path, clock)
    before.enrolment.cover("north", signed("north", 5, clock.now()))
    before.journal.close()
    fewer = {"crash.vehicles": schema(actions=("no",)), "drives": SCHEMA}
    after = open_registry(tmp_path, clock, schemas=fewer)
    held = after.enrolment.holding("north")
    assert held is not None
    assert held.lapsed(clock)
    assert [dict(each.counts) for each in held.coverage.regions] == [{"no": 3, "": 3}] * 5
    after.journal.close()


def test_a_spoilt_entry_is_named(tmp_path: Path) -> None:
    clock = ManualClock()
    before = open_registry(tmp_path, clock)
    broken = {**signed("north", 5, clock.now()), "regions": [{}]}
    before.journal.put("north", Entry(coverage=broken, received=clock.now()))
    before.journal.close()
    with pytest.raises(Corrupt, match="north"):
        open_registry(tmp_path, clock)


def test_members_at_odds_are_refused(registry: Registry[ManualClock]) -> None:
    domains = [DomainEntry(name, SCHEMA) for name in sorted(set(NETWORKS.values()))]
    twice = [*members(), members()[0]]
    with pytest.raises(ConfigError, match="two networks"):
        Enrolment(domains, twice, registry.journal, registry.clock, "kindred.internal.")
    lost = Member("lost", "medicine", bytes(32), (), "embedded")
    with pytest.raises(ConfigError, match="medicine"):
        Enrolment(domains, [lost], registry.journal, registry.clock, "kindred.internal.")


def test_a_registry_does_not_serve_packets_of_patients(tmp_path: Path) -> None:
    opened = open_registry(tmp_path, ManualClock())
    for entry in (
        DomainEntry("icu.medicine", SCHEMA, min_cohort=11),
        DomainEntry("icu.medicine", replace(SCHEMA, release="aggregates"), min_cohort=10),
    ):
        with pytest.raises(ConfigError, match=r"^icu\.medicine: "):
            Enrolment([entry], [], opened.journal, opened.clock, "o.")
    opened.journal.close()


@pytest.mark.parametrize("endpoint", ["nats://127.0.0.1:4222/x", "MQTT://h/x", "dht:abc", "nonsense", ""])
def test_where_aggregates_are_released_nobody_may_read_packets(tmp_path: Path, endpoint: str) -> None:
    opened = open_registry(tmp_path, ManualClock())
    member = Member("one", "d", KEYS["north"].public, ("http://127.0.0.1:1/one", endpoint), "nats")
    Enrolment([DomainEntry("d", SCHEMA)], [member], opened.journal, opened.clock, "o.")
    domains = [DomainEntry("d", replace(SCHEMA, release="aggregates"), min_cohort=5)]
    with pytest.raises(ConfigError, match="network one: d releases aggregates, and who asks at"):
        Enrolment(domains, [member], opened.journal, opened.clock, "o.")
    Enrolment(domains, [replace(member, endpoints=("HTTPS://h/one",))], opened.journal, opened.clock, "o.")
    opened.journal.close()
