"""One budget of time: a part before which to wait, a part at the end in which to finish."""

from __future__ import annotations

import pytest

from gateway.fetching.deadline import Deadline
from registry.clock import ManualClock


def test_time_to_finish_is_left_when_the_networks_time_is_over() -> None:
    clock = ManualClock()
    deadline = Deadline(clock, 2.0)
    assert deadline.remaining() == pytest.approx(1.9)
    clock.advance(1.89)
    assert deadline.remaining() == pytest.approx(0.01)
    clock.advance(0.02)
    assert deadline.remaining() == 0.0
    assert deadline.elapsed() == pytest.approx(1.91)


def test_the_soft_deadline_comes_before() -> None:
    clock = ManualClock()
    deadline = Deadline(clock, 2.0)
    assert not deadline.soft
    clock.advance(0.79)
    assert deadline.until_soft() == pytest.approx(0.01)
    clock.advance(0.02)
    assert deadline.soft
    assert deadline.remaining() > 0
