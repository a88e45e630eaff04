"""How old what an answer rests on is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.fetching.age import Ages


def test_the_least_serial_is_the_age_and_one_that_is_not_known_makes_it_unknown() -> None:
    ages = Ages()
    assert ages.as_of == 0
    ages.take("a.", 170, 0, 100)
    ages.take("b.", 150, 0, 100)
    ages.take("a.", 180, 0, 100)
    assert (ages.as_of, ages.apart) == (150, False)
    ages.take("b.", 0, 0, None)
    assert ages.as_of == 0


def test_what_a_signature_says_is_as_old_as_it_and_as_new_as_now() -> None:
    ages = Ages()
    ages.take("a.", 1000, 1090, 100)
    assert not ages.apart
    ages.take("a.", 1010, 1101, 100)
    assert ages.apart


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 400)), min_size=1), st.integers(0, 300) | st.none())
def test_versions_are_apart_where_those_of_one_registry_are(read: list[tuple[str, int]], keep_s: int | None) -> None:
    ages = Ages()
    for apex, serial in read:
        ages.take(apex, serial, 0, keep_s)
    widest = max(max(s for a, s in read if a == apex) - min(s for a, s in read if a == apex) for apex, _ in read)
    assert ages.apart == (keep_s is not None and widest > keep_s)
    assert ages.as_of == min(serial for _, serial in read)
