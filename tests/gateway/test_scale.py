"""What the benchmark of scale stands on: virtual time, made coverages, and the gateway walking through them."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from benchmarks.continents import CONTINENTS, ROUND_TRIPS_MS, World, endpoint_of, trips_from
from benchmarks.coverages import draw
from benchmarks.grown import Grown, K
from benchmarks.updates import updates
from benchmarks.virtual import INITIAL_WINDOW, Server, VirtualLoop
from gateway.question import Recall
from registry.zones.delta import between


class Echo:
    """Answers with as many octets as it is told."""

    def received(self, data: bytes) -> list[bytes]:
        return [bytes(int(data))]


class Client(asyncio.Protocol):
    def __init__(self, due: int) -> None:
        self.came: list[float] = []
        self.due = due
        self.all = asyncio.Event()

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - the protocol's signature
        self.came.append(asyncio.get_running_loop().time())
        if len(self.came) == self.due:
            self.all.set()


def came_at(round_trip: float, sizes: list[int]) -> tuple[float, list[float]]:
    def connect(host: str, port: int) -> tuple[float, Server]:
        assert (host, port) == ("there", 1)
        return round_trip, Echo()

    loop = VirtualLoop(connect)

    async def ask() -> tuple[float, list[float]]:
        transport, protocol = await loop.create_connection(lambda: Client(len(sizes)), "there", 1)
        stood = loop.time()
        assert isinstance(protocol, Client)
        for size in sizes:
            transport.write(str(size).encode())
        await protocol.all.wait()
        return stood, protocol.came

    try:
        return loop.run_until_complete(ask())
    finally:
        loop.close()


def test_a_connection_and_an_answer_cost_a_round_trip_each() -> None:
    stood, [came] = came_at(0.2, [10])
    assert stood == pytest.approx(0.2)
    assert came == pytest.approx(0.4)


def test_long_answers_wait_for_the_window_to_open() -> None:
    """Windows of 1, 2 and 4 times the first: what is beyond one waits a round trip more."""
    _, came = came_at(0.2, [INITIAL_WINDOW, 2 * INITIAL_WINDOW, 2 * INITIAL_WINDOW, 2 * INITIAL_WINDOW, 1])
    assert came == pytest.approx([0.4, 0.6, 0.8, 0.8, 1.0])


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Grown:
    return Grown(draw("flights", 12, tmp_path_factory.mktemp("scale"), per_network=128), endpoint_of)


def test_every_packet_lies_in_a_region_of_its_network(grown: Grown) -> None:
    for number, packets in enumerate(grown.coverages.packets):
        regions = [leaf.region for leaf in grown.coverages.leaves if leaf.network == f"n{number}"]
        assert sum(region.size for region in regions) == len(packets)
        assert np.any([region.contains(packets, "") for region in regions], axis=0).all()


def test_an_exact_question_finds_what_brute_force_finds_in_two_waves(grown: Grown) -> None:
    for query in grown.coverages.questions[:20].astype(np.float64):
        answered = grown.answer(query, "exact")
        nearest = answered.merge.nearest()
        assert len(nearest) == K
        assert nearest[-1].distance2 ** 0.5 == pytest.approx(grown.coverages.kth(query, K), rel=1e-12)
        assert answered.waves <= 2


def test_cells_at_hand_lead_to_the_same_networks(grown: Grown) -> None:
    for query in grown.coverages.questions[:10].astype(np.float64):
        cold = grown._walked(query, "exact")[1].forecast()
        assert grown._walked(query, "exact", at_hand=True)[1].forecast().networks == cold.networks


def test_round_trips_are_the_same_both_ways() -> None:
    assert np.array_equal(ROUND_TRIPS_MS, np.transpose(ROUND_TRIPS_MS))
    assert trips_from("europe")("n3.oceania.example") == 0.265


def test_a_question_across_continents_is_answered_and_again_without_lookups(grown: Grown) -> None:
    def asked() -> list[float]:
        world = World(grown, "ns.europe.example", trips_from("europe"))
        try:
            cold, warm = (world.ask(grown.coverages.questions[0], "exact") for _ in range(2))
        finally:
            world.close()
        assert cold.complete
        assert warm.complete
        assert cold.lookups > 3
        assert (warm.lookups, warm.connections) == (0, 0)
        assert warm.seconds <= 2 * warm.farthest + 1e-9 < cold.seconds
        return [cold.seconds, warm.seconds]

    assert asked() == asked()
    assert len(CONTINENTS) == len(ROUND_TRIPS_MS)


def test_recall_asks_no_more_than_exact(grown: Grown) -> None:
    for query in grown.coverages.questions[:10].astype(np.float64):
        recall = grown.answer(query, Recall(recall=0.9))
        assert recall.asked <= grown.answer(query, "exact").asked
        assert recall.stated >= 0.9


def test_a_change_that_changes_nothing_costs_nothing_and_another_little(grown: Grown) -> None:
    assert not between(grown.zone, grown.zone).added
    [update] = updates(grown, 1)
    assert 0 < update.cells < grown.cells * 2
    assert 64 * 100 < update.octets < grown.octets()
