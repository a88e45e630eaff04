"""Real attackers against what is published. They find a careless network's patients out, and not those of this one.

docs/decisions/020-atoms.md says what the games are, what is not won in them, and what no sum over 11 can hide.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from gateway.fetching.atoms import nearest
from regional.client import NearestRequest
from regional.releasing.atom import step_of
from regional.releasing.atombatch import AtomBatch
from regional.releasing.page import Home, page_bytes, read_page
from tests.regional.attacks import (
    LEAST,
    Careful,
    Naive,
    Sequence,
    alone,
    arrival,
    auc,
    conditional_auc,
    who_left,
    withdrawal,
)
from tests.regional.persons import SCHEMA, D, Ward, rules

pytestmark = pytest.mark.usefixtures("one_thread")
SEQUENCES = int(os.environ.get("KINDRED_SEQUENCES", "500"))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """More of them wait for one another longer than matrices of 2 by 2 take."""
    with threadpool_limits(limits=1):
        yield


def play(game: object, publisher: type) -> list[Sequence]:
    return [each for seed in range(SEQUENCES) if (each := game(seed, publisher())) is not None]  # type: ignore[operator]


def test_two_epochs_of_a_careless_network_tell_the_outcome() -> None:
    played = play(withdrawal, Naive)
    truth = np.array([each.died for each in played])
    assert auc(np.array([each.beyond for each in played]), truth) > 0.95
    assert conditional_auc(played) > 0.95


@pytest.mark.parametrize("game", [withdrawal, arrival])
def test_what_changes_between_epochs_tells_nothing_beyond_what_one_tells(game: object) -> None:
    played = play(game, Careful)
    assert len(played) > SEQUENCES / 2
    assert conditional_auc(played) <= 0.55
    single = auc(np.array([alone(each) for each in played]), np.array([each.died for each in played]))
    assert 0.55 < single < 0.75  # a sum over 11 with the target in it, to one who knows the risk: as arithmetic has it


def test_nobody_can_tell_which_of_an_atom_has_left() -> None:
    # Twice as many as else: an AUC over so many is known to 0.018, over 500 to 0.026.
    played = [each for seed in range(2 * SEQUENCES) if (each := who_left(seed, Careful())) is not None]
    left, score = (np.array(column) for column in zip(*played, strict=True))
    assert abs(auc(score.astype(float), left.astype(bool)) - 0.5) <= 0.05
    careless = [each for seed in range(SEQUENCES) if (each := who_left(seed, Naive())) is not None]
    left, score = (np.array(column) for column in zip(*careless, strict=True))
    assert auc(score.astype(float), left.astype(bool)) > 0.95


def test_by_chosen_centres_and_radii_nothing_but_whole_atoms_ever_differs() -> None:
    """The target is circled as closely as can be; what two questions differ by is atoms, of LEAST persons each."""
    ward = Ward(rules(LEAST))
    ward.put(*range(300))
    ward.publish()
    home = Home("ward", "one", SCHEMA.space, D, step_of(SCHEMA))
    body = page_bytes([each.atom for each in ward.state.held.values()], home)
    atoms = AtomBatch.of([read_page(body, home, LEAST)], D)
    rng = np.random.default_rng(1)
    sizes = dict(zip(atoms.nodes, atoms.sizes.tolist(), strict=True))
    differing = 0
    for number in range(100):
        target = ward.packets[number].fingerprint.astype(np.float64)
        seen = []
        for _ in range(12):
            radius = float(rng.exponential(0.3))
            centre = (target + rng.normal(size=D) * rng.choice([1e-7, 1e-3, 0.3])).astype(np.float32)
            request = NearestRequest(
                "ward", "one", SCHEMA.space, centre, int(rng.integers(1, 40)), within={"a": radius}
            )
            seen.append(frozenset(nearest(atoms, request).nodes))
        for one in seen:
            for two in seen:
                if one != two:
                    differing += 1
                    assert sum(sizes[node] for node in one ^ two) >= LEAST
    assert differing > 1000
