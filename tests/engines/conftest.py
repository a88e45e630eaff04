"""Every engine by the way it is started; the servers run once for the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engines.kinds import KINDS, Kind


@pytest.fixture(scope="session", params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    made: Kind = request.param(tmp_path_factory.mktemp(request.param.name))
    made.start()
    yield made
    made.stop()
