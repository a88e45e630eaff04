"""Every engine by the way it is started; the servers run once for the session."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.engines.dht_kind import Dht
from tests.engines.kinds import KINDS, SERVED, Kind, Served

_numbers = itertools.count()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[type[Kind], Kind]]:
    """What has been started; ended with the session."""
    started: dict[type[Kind], Kind] = {}
    yield started
    for each in started.values():
        each.stop()


def started(which: type[Kind], running: dict[type[Kind], Kind], tmp_path_factory: pytest.TempPathFactory) -> Kind:
    """A kind's servers, started once for the session."""
    if which not in running:
        made = which(tmp_path_factory.mktemp(which.name))
        running[which] = made
        made.start_for_all()
    return running[which]


@pytest.fixture(params=[*KINDS, Dht], ids=lambda each: each.name)
def kind(
    request: pytest.FixtureRequest,
    running: dict[type[Kind], Kind],
    tmp_path_factory: pytest.TempPathFactory,
) -> Kind:
    """Each way to keep packets."""
    return started(request.param, running, tmp_path_factory)


@pytest.fixture(params=SERVED, ids=lambda each: each.name)
def served(
    request: pytest.FixtureRequest,
    running: dict[type[Kind], Kind],
    tmp_path_factory: pytest.TempPathFactory,
) -> Served:
    """Each way to keep them on a server."""
    found = started(request.param, running, tmp_path_factory)
    assert isinstance(found, Served)
    return found


@pytest.fixture
def dht(running: dict[type[Kind], Kind], tmp_path_factory: pytest.TempPathFactory) -> Dht:
    """The DHT."""
    found = started(Dht, running, tmp_path_factory)
    assert isinstance(found, Dht)
    return found


@pytest.fixture
def name() -> str:
    """A store that nobody has used yet."""
    return f"store-{next(_numbers)}"
