"""A version of a branch never changes, and shares with the next what that did not change."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from registry.dns.rrset import rrset
from registry.dns.wire import TXT
from registry.zones.names import Names, Node


def node(number: int) -> Node:
    return (rrset(TXT, 30, [bytes([number])]),)


LABELS = st.integers(0, 400).map(lambda n: b"\x04" + str(1000 + n).encode())
CHANGES = st.dictionaries(LABELS, st.none() | st.integers(0, 255).map(node), max_size=30)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(LABELS, st.integers(0, 255).map(node), max_size=300), st.lists(CHANGES, max_size=6))
def test_every_version_is_as_a_dict_would_be(start: dict[bytes, Node], steps: list[dict[bytes, Node | None]]) -> None:
    model = dict(start)
    versions = [(Names(start), dict(start))]
    for step in steps:
        for labels, each in step.items():
            model.pop(labels, None)
            if each is not None:
                model[labels] = each
        versions.append((versions[-1][0].changed(step), dict(model)))
    for names, expected in versions:
        assert dict(names.items()) == expected
        assert len(names) == len(expected)
        assert all(names.get(labels) is each for labels, each in expected.items())
        assert names.get(b"\x03not") is None
    for (old, before), (new, after) in pairwise(versions):
        differing = {labels for labels in before.keys() | after.keys() if before.get(labels) != after.get(labels)}
        assert set(old.differing(new)) >= differing


def test_a_change_copies_little_and_many_make_more_room() -> None:
    names = Names({b"\x05" + str(10_000 + n).encode(): node(n % 256) for n in range(5000)})
    after = names.changed({b"\x0510000": node(9)})
    assert set(names.differing(after)) == {b"\x0510000"}
    assert sum(old is new for old, new in zip(names._shards, after._shards, strict=True)) == len(names._shards) - 1
    grown = names
    for n in range(40_000):
        if n % 4000 == 0:
            grown = grown.changed({b"\x06" + str(100_000 + n + m).encode(): node(1) for m in range(4000)})
    assert len(grown) == 45_000
    assert len(grown._shards) > 2 * len(names._shards)
