"""The merge: one total order, whatever came from where and when."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gateway.planning.merge import Merge
from regional.packets.batch import Batch
from regional.packets.packet import Packet, identity_digest
from registry.geometry.region import squared_distances

QUERY = np.zeros(2)


def packet(network: str, number: int, place: tuple[float, float], action: str | None = "a") -> Packet:
    point = np.array(place, dtype=np.float32)
    return Packet("toys", bytes(8), network, bytes([number]), 1, 0.0, 0.0, point, action, {"cost": 1.0})


coordinates = st.integers(-3, 3).map(float)
holdings = st.lists(st.tuples(st.tuples(coordinates, coordinates), st.sampled_from(["a", "b", None])), max_size=12)


@given(st.lists(holdings, max_size=4), st.integers(1, 9), st.booleans(), st.randoms(use_true_random=False))
def test_parts_in_any_order_are_the_whole(held: list, k: int, per_action: bool, random: object) -> None:
    arms = ("a", "b") if per_action else ("",)
    packets = {
        f"n{i}": [packet(f"n{i}", j, place, action) for j, (place, action) in enumerate(holding)]
        for i, holding in enumerate(held)
    }
    merge = Merge(QUERY, k, arms)
    order = list(packets)
    random.shuffle(order)  # type: ignore[attr-defined]
    for network in order:
        merge.add(network, Batch.of_packets(packets[network]), {})
    expected = []
    for arm in arms:
        pool = [each for network in packets.values() for each in network if not arm or each.action == arm]
        points = np.array([each.fingerprint for each in pool], dtype=np.float64).reshape(len(pool), 2)
        keys = zip(squared_distances(points, QUERY), (identity_digest(p.network, p.node) for p in pool), strict=True)
        ranked = sorted(zip(keys, range(len(pool)), strict=True))
        expected += [(pool[row].network, pool[row].node) for _, row in ranked[:k]]
    assert [(each.network, each.packet.node) for each in merge.nearest()] == expected


def test_the_radius_never_loses_a_packet_at_exactly_the_kth_distance() -> None:
    merge = Merge(QUERY, 1, ("",))
    assert merge.radius().tolist() == [np.inf]
    merge.add("one", Batch.of_packets([packet("one", 1, (0.1, 0.7))]), {})
    exact = float(np.sqrt(squared_distances(np.float32([[0.1, 0.7]]).astype(np.float64), QUERY)[0]))
    assert exact <= merge.radius()[0] <= exact * (1 + 1e-9)


def test_ties_at_k_are_counted_with_those_that_stayed_at_home() -> None:
    merge = Merge(QUERY, 2, ("a",))
    merge.add("one", Batch.of_packets([packet("one", 1, (1, 0)), packet("one", 2, (0, 1))]), {"a": 40})
    merge.add("two", Batch.of_packets([packet("two", 1, (1, 0)), packet("two", 2, (2, 0))]), {"a": 1})
    assert merge.tied_at_k() == 40 + 1 - 2
    merge.add("three", Batch.of_packets([packet("three", 1, (0, 0)), packet("three", 2, (0.5, 0))]), {"a": 1})
    assert merge.tied_at_k() == 0


def test_a_network_whose_neighbour_is_no_packet_is_found_and_taken_back() -> None:
    good, bad = packet("one", 1, (1, 0)), packet("two", 1, (0, 1)).to_cbor().replace(b"dcost\xf9", b"dcost\xf8", 1)
    merge = Merge(QUERY, 2, ("a",))
    merge.add("one", Batch.of_packets([good]), {})
    assert merge.faulty() is None
    merge.add("two", Batch.of([bad], ("toys", bytes(8), "two"), 2), {})
    fault = merge.faulty()
    assert fault is not None
    assert fault[0] == "two"
    merge.drop("two")
    assert merge.faulty() is None
    assert [each.network for each in merge.nearest()] == ["one"]


versions = st.dictionaries(st.integers(0, 9), st.integers(1, 3), max_size=8)  # node and seq


@given(st.lists(versions, min_size=1, max_size=4), st.integers(1, 6), st.randoms(use_true_random=False))
def test_shares_that_overlap_are_one_network(members: list[dict[int, int]], k: int, random: object) -> None:
    """Whatever each member holds of which age, the newest packet of each node counts, once."""

    def version(node: int, seq: int) -> Packet:
        return replace(packet("one", node, (node * seq % 7, seq)), seq=seq)

    merge = Merge(QUERY, k, ("",))
    order = list(enumerate(members))
    random.shuffle(order)  # type: ignore[attr-defined]
    for number, held in order:
        merge.add(f"one-s{number}", Batch.of_packets([version(*each) for each in held.items()]), {}, "one")
    newest: dict[int, int] = {}
    for held in members:
        for node, seq in held.items():
            newest[node] = max(seq, newest.get(node, 0))
    whole = Merge(QUERY, k, ("",))
    whole.add("one", Batch.of_packets([version(*each) for each in newest.items()]), {})
    assert [(each.network, each.packet.to_cbor()) for each in merge.nearest()] == [
        (each.network, each.packet.to_cbor()) for each in whole.nearest()
    ]
    assert merge.kths() == whole.kths()


def test_of_a_node_that_two_members_hold_the_newest_counts_once() -> None:
    merge = Merge(QUERY, 2, ("a",))
    old = [packet("one", 1, (1, 0)), packet("one", 2, (2, 0)), packet("one", 3, (5, 0))]
    assert merge.add("one", Batch.of_packets(old), {}) == frozenset()
    assert merge.kth("a") == 2
    assert merge.add("one-s2", Batch.of_packets([old[1], packet("one", 4, (3, 0))]), {}, "one") == frozenset()
    assert [(each.network, each.packet.node) for each in merge.nearest()] == [("one", b"\1"), ("one", b"\2")]
    moved = replace(old[0], seq=2, fingerprint=np.array((9, 0), dtype=np.float32))
    assert merge.add("one-s3", Batch.of_packets([moved]), {}, "one") == {"one"}
    assert [each.packet.node for each in merge.nearest()] == [b"\2", b"\4"]
    assert merge.nearest().senders() == ("one", "one-s2")
    assert merge.add("one-s4", Batch.of_packets([old[0]]), {}, "one") == {"one-s4"}
    assert merge.kth("a") == 3
    merge.drop("one-s3")
    assert [each.packet.node for each in merge.nearest()] == [b"\1", b"\2"]


def test_what_two_members_hold_is_tied_once() -> None:
    merge = Merge(QUERY, 1, ("a",))
    merge.add("one", Batch.of_packets([packet("one", 1, (1, 0))]), {"a": 3})
    merge.add("one-s2", Batch.of_packets([packet("one", 1, (1, 0))]), {"a": 2}, "one")
    assert merge.tied_at_k() == 2
    merge.add("two", Batch.of_packets([packet("two", 1, (0, 1))]), {"a": 1})
    assert merge.tied_at_k() == 3
