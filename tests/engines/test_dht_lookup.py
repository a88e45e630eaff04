"""Lookups in a DHT whose ends come late: none is taken for the end of another that may know more."""

from __future__ import annotations

from regional.engines.dht.lookup import Lookups, Waiter

KEY = "key"


class Begun:
    """Lookups, and how many were begun."""

    def __init__(self) -> None:
        self.lookups = Lookups()
        self.n = 0

    def enter(self, satisfied: bool = False, alone: bool = False) -> Waiter:
        waiter = Waiter((lambda _value: True) if satisfied else None)
        self.lookups.enter(KEY, waiter, self._begin, alone=alone, dated=not alone)
        return waiter

    def _begin(self) -> None:
        self.n += 1


def passed_by() -> tuple[Begun, Waiter]:
    """One whose answer was taken before it has ended, and one who asks after that."""
    begun = Begun()
    first = begun.enter(satisfied=True)
    begun.lookups.tell(KEY, b"old", 1, last=False)
    assert first.future.result() == b"old"
    return begun, begun.enter()


async def test_the_end_of_an_earlier_lookup_is_not_the_answer_to_a_later_one() -> None:
    begun, late = passed_by()
    begun.lookups.tell(KEY, b"old", 1, last=True)
    assert not late.future.done()
    begun.lookups.tell(KEY, b"new", 2, last=True)
    assert late.future.result() == b"new"


async def test_whichever_ends_first_the_newest_is_the_answer() -> None:
    begun, late = passed_by()
    begun.lookups.tell(KEY, b"new", 2, last=False)
    begun.lookups.tell(KEY, b"new", 2, last=True)
    begun.lookups.tell(KEY, b"old", 1, last=True)
    assert late.future.result() == b"new"


async def test_what_is_waited_for_is_looked_up_once_and_what_has_ended_anew() -> None:
    begun = Begun()
    waiters = [begun.enter() for _ in range(3)]
    assert begun.n == 1
    begun.lookups.tell(KEY, b"value", 1, last=True)
    assert [each.future.result() for each in waiters] == [b"value"] * 3
    late = begun.enter()  # before those have noticed
    assert begun.n == 2
    begun.lookups.tell(KEY, None, 0, last=True)
    assert late.future.result() is None
    for each in (*waiters, late):
        begun.lookups.leave(KEY, each)
    assert begun.lookups.waiting == []


async def test_every_put_is_begun() -> None:
    begun = Begun()
    assert [begun.enter(alone=True) for _ in range(3)]
    assert begun.n == 3
