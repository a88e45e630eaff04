"""The directory of a bucket in a DHT: its pages say all, none is too large, and a change alters few of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regional.engines.dht.item import (
    MAX_VALUE,
    Head,
    Key,
    Ref,
    checked,
    gone,
    gone_up_to,
    head_salt,
    index,
    leaf,
    name_of,
    packet_salt,
    read_page,
)
from regional.engines.dht.tree import MAX_KEYS, MIN_KEYS, Tree
from regional.engines.mirror import Home
from registry.errors import Corrupt, TooLarge
from tests.engines.packets import packet

HOME = Home("tests", b"12345678", "net")


def entries(pages: Mapping[bytes, bytes], ref: Ref | None) -> Iterator[tuple[Key, Ref]]:
    """What a reader finds, with the leaf that it stands in."""
    if ref is not None:
        assert name_of(pages[ref.name]) == ref.name
        for each in read_page(pages[ref.name], ref):
            if isinstance(each, Key):
                yield each, ref
            else:
                yield from entries(pages, each)


def check(tree: Tree, held: Mapping[bytes, tuple[int, np.ndarray, str]], stored: dict[bytes, bytes]) -> None:
    new = tree.commit()
    stored.update(new)
    assert all(len(value) <= MAX_VALUE for value in new.values())
    head = Head(
        HOME, 0, 1, 1, len(next(iter(held.values()))[1]) if held else 2, 5, 1.5, len(tree), tree.actions, tree.top
    )
    read = Head.from_value(head.to_value())
    assert (read.home, read.n, read.actions) == (HOME, len(held), tree.actions)
    found = list(entries(stored, read.top))
    assert {key.node: key.seq for key, _ in found} == {node: seq for node, (seq, _, _) in held.items()}
    assert len(found) == len(held)
    for key, ref in found:
        _, point, action = held[key.node]
        assert (ref.lo <= point).all()
        assert (point <= ref.hi).all()
        if read.actions is not None:
            assert ref.mask >> read.actions.index(action) & 1
        assert ref.n <= MAX_KEYS


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_whatever_comes_and_goes_the_pages_say_what_is_there(data: st.DataObject) -> None:
    d = data.draw(st.sampled_from([1, 3, 32, 128]))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    scale = data.draw(st.sampled_from([0.0, 1.0, 1e12]))
    tree, held, stored = Tree(d), {}, {}
    for _ in range(data.draw(st.integers(1, 6))):
        for _ in range(data.draw(st.integers(0, 150))):
            node = b"x" * int(random.integers(1, 31)) + bytes([int(random.integers(0, 256))])
            if node in held and random.random() < 0.4:
                del held[node]
                tree.remove(node)
            else:
                point = (random.normal(size=d) * scale).astype(np.float32).astype(np.float64)
                held[node] = int(random.integers(0, 2**63)), point, "ab"[int(random.integers(0, 2))]
                tree.put(node, *held[node])
        check(tree, held, stored)
        assert set(dict(tree.pages())) <= set(stored)


def test_a_change_alters_one_leaf_and_the_pages_above_it() -> None:
    tree = Tree(8)
    for number in range(3_000):
        made = packet(number)
        tree.put(made.node, made.seq, made.fingerprint.astype(np.float64), made.action or "")
    everything = tree.commit()
    assert 3_000 / MAX_KEYS < len(everything) < 3_000 / 10
    made = packet(7)
    tree.put(made.node, 2, made.fingerprint.astype(np.float64), made.action or "")
    assert len(tree.commit()) <= 4


def test_what_is_left_of_many_stands_in_few_leaves() -> None:
    tree = Tree(8)
    for number in range(3_000):
        made = packet(number)
        tree.put(made.node, made.seq, made.fingerprint.astype(np.float64), made.action or "")
    for number in range(2_900):
        tree.remove(packet(number).node)
    tree.commit()
    leaves = [value for _, value in tree.pages() if cbor2.loads(value)[0] == 0]
    assert len(leaves) <= 100 / MIN_KEYS


def test_more_actions_than_a_head_has_room_for() -> None:
    tree, held = Tree(2), {}
    for number in range(60):
        held[b"n%d" % number] = 1, np.array([number, 0.0]), f"action-{number}-{'x' * 40}"
        tree.put(b"n%d" % number, *held[b"n%d" % number])
    check(tree, held, {})
    assert tree.actions is None


def test_what_is_too_large_is_refused_by_name() -> None:
    assert checked(bytes(MAX_VALUE)) == bytes(MAX_VALUE)
    with pytest.raises(TooLarge, match="a value of 997 bytes; a DHT keeps at most 996"):
        checked(bytes(MAX_VALUE + 1))


def test_a_page_that_is_not_what_was_counted() -> None:
    point = np.zeros(2)
    keys = [Key(b"a", 1), Key(b"b", 2)]
    ref = Ref(0, b"x" * 20, 2, 1, point, point)
    assert read_page(leaf(keys), ref) == keys
    inner = Ref(1, b"y" * 20, 2, 1, point, point)
    (below,) = read_page(index([ref]), inner)
    assert isinstance(below, Ref)
    assert (below.name, below.n, below.level) == (ref.name, 2, 0)
    for value in (
        leaf(keys[:1]),
        leaf([keys[0], keys[0]]),
        index([ref]),
        b"",
        b"\x80",
        b"\xff",
        b"\x01",
        leaf(keys)[:-1],
    ):
        with pytest.raises(Corrupt):
            read_page(value, ref)
    for value in (leaf(keys), index([ref, ref])):
        with pytest.raises(Corrupt):
            read_page(value, inner)


@given(st.binary(max_size=60))
def test_nothing_unreadable_is_read(value: bytes) -> None:
    point = np.zeros(2)
    with pytest.raises(Corrupt):
        Head.from_value(value)
    for level in (0, 1):
        try:
            found = read_page(value, Ref(level, b"x" * 20, 1, 1, point, point))
        except Corrupt:
            continue
        assert len(found) == 1


def test_marks_and_names() -> None:
    assert gone_up_to(gone(2**64 - 1)) == 2**64 - 1
    assert gone_up_to(packet(1).to_cbor()) == -1
    assert gone_up_to(b"") == -1
    salts = {head_salt("a", 0), head_salt("a", 1), head_salt("b", 0), packet_salt("a", bytes(4)), packet_salt("a", b"")}
    assert len(salts) == 5
