"""What a network publishes, over any number of epochs, never tells of fewer than min_cohort persons."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regional.cohort import Cohort
from regional.releasing.release import Held, Member, Person, lacking, value_of
from tests.regional.persons import Ward, rules

LEAST = 3
STEPS = int(os.environ.get("KINDRED_SOAK", "10000"))  # of everything that may happen to a person
SEQUENCE = 250


class Audit:
    """Watches a ward: which episodes are in each figure that was ever published, by column ("" the persons)."""

    def __init__(self) -> None:
        self.sets: dict[str, list[frozenset[bytes]]] = defaultdict(list)
        self.seen: dict[str, set[bytes]] = defaultdict(set)
        self.told: dict[int, Held] = {}

    def publish(self, ward: Ward) -> None:
        """Publish, and check what is new: it is right, of `LEAST` at least, and nobody in it was in one before."""
        persons = {person.episode: person for person in ward.persons()}
        step = ward.publish()
        if step is None:
            return
        inside = [member.episode for each in ward.state.held.values() for member in each.members]
        assert len(inside) == len(set(inside))
        new: dict[str, list[frozenset[bytes]]] = defaultdict(list)
        for number, each in ward.state.held.items():
            before = self.told.get(number)
            members = [persons[m.episode] for m in each.members if m.episode in persons]
            if before is None:
                assert each.atom.size == len(members) == len(each.members)
                new[""].append(frozenset(person.episode for person in members))
            for name, figures in each.atom.figures.items():
                if before is not None and name in before.atom.figures:
                    assert figures == before.atom.figures[name]
                else:
                    assert figures.n >= LEAST
                    assert figures.variance > 0
                    known = [(p, v) for p in members if (v := value_of(p.packet, name)) is not None]
                    assert figures == Cohort.of([(v, p.packet.weight) for p, v in known]).figures()
                    new[name].append(frozenset(p.episode for p, _ in known))
        for column, sets in new.items():
            for each_set in sets:
                assert len(each_set) >= LEAST
                assert not each_set & self.seen[column]
                self.seen[column] |= each_set
            self.sets[column] += sets
        self.told = dict(ward.state.held)

    def check_combinations(self) -> None:
        """By linear algebra over all that was ever published: no combination isolates fewer than LEAST values.

        A combination within the values T, and nowhere else, exists if and only if without T's columns the rank falls.
        Values that were always published together are one column.
        """
        for sets in self.sets.values():
            patterns: dict[tuple[bool, ...], int] = defaultdict(int)
            for value in set().union(*sets):
                patterns[tuple(value in each for each in sets)] += 1
            columns = np.array(list(patterns), dtype=np.float64).T
            sizes = list(patterns.values())
            rank = np.linalg.matrix_rank(columns)
            small = [place for place, size in enumerate(sizes) if size < LEAST]
            for amount in range(1, LEAST):
                for chosen in combinations(small, amount):
                    if sum(sizes[place] for place in chosen) < LEAST:
                        assert np.linalg.matrix_rank(np.delete(columns, chosen, axis=1)) == rank


def one_sequence(rng: np.random.Generator) -> Audit:
    """Deposits, new outcomes, new episodes, changes of action, erasures; an epoch after a few of them."""
    ward, audit = Ward(rules(LEAST, rng.bytes(32))), Audit()
    count = 0
    for _ in range(SEQUENCE):
        held = sorted(ward.packets)
        draw = rng.random()
        some = int(rng.choice(held)) if held else 0
        if not held or (draw < 0.55 and len(held) < 60):
            for _ in range(int(rng.integers(1, 5))):
                count += 1
                unknown = {"died": None, "cost": None, "life": None}
                outcomes = {} if rng.random() < 0.8 else {"outcomes": unknown}
                ward.put(count, action="ab"[int(rng.random() < 0.3)], **outcomes)
        elif draw < 0.75:
            was = ward.packets[some]
            cost = float(rng.integers(0, 3))  # an old value comes back now and then
            outcomes = {**was.outcomes, "died": float(rng.random() < 0.5), "cost": cost}
            ward.packets[some] = replace(was, seq=was.seq + 1, outcomes=outcomes)
        elif draw < 0.85:
            was = ward.packets[some]
            ward.packets[some] = replace(was, seq=was.seq + 1, t0=was.t0 + 1)
        elif draw < 0.9:
            was = ward.packets[some]
            ward.packets[some] = replace(was, seq=was.seq + 1, action="ab"[was.action == "a"])
        else:
            del ward.packets[some]
        if rng.random() < 0.3:
            audit.publish(ward)
    audit.publish(ward)
    return audit


def test_no_combination_of_all_that_was_ever_published_isolates_fewer() -> None:
    rng = np.random.default_rng(20)
    published = 0
    for number in range(STEPS // SEQUENCE):
        audit = one_sequence(rng)
        published += sum(len(sets) for sets in audit.sets.values())
        if number % 4 == 0:
            audit.check_combinations()
    assert published > STEPS / 20


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(3, 60), st.integers(2, 11))
def test_everybody_is_in_one_atom_of_one_action_at_first(seed: int, n: int, least: int) -> None:
    rng = np.random.default_rng(seed)
    ward = Ward(rules(least, rng.bytes(32)))
    for number in range(n):
        ward.put(number, action="ab"[int(rng.random() < 0.4)])
    ward.publish()
    persons = {person.episode: person for person in ward.persons()}
    inside = [member.episode for each in ward.state.held.values() for member in each.members]
    assert len(inside) == len(set(inside))
    for action in "ab":
        of_action = [person for person in persons.values() if person.packet.action == action]
        grouped = [episode for episode in inside if persons[episode].packet.action == action]
        assert len(grouped) == (len(of_action) if len(of_action) >= least else 0)
    for each in ward.state.held.values():
        members = [persons[member.episode].packet for member in each.members]
        assert each.atom.size == len(members) >= least
        assert {member.action for member in members} == {each.atom.action}
        mean = np.mean([member.fingerprint for member in members], axis=0, dtype=np.float64)
        assert np.abs(each.atom.place * ward.rules.step - mean).max() <= ward.rules.step / 2 * (1 + 1e-9)
        for figures in each.atom.figures.values():
            assert figures.n >= least
            assert figures.variance > 0


def held(ward: Ward) -> dict[int, set[bytes]]:
    return {number: {member.episode for member in each.members} for number, each in ward.state.held.items()}


def test_one_arrival_changes_nothing_and_enough_make_new_atoms() -> None:
    ward = Ward()
    ward.put(*range(30))
    ward.publish()
    before = held(ward)
    for number in range(30, 30 + LEAST - 1):
        ward.put(number)
        assert ward.publish() is None
    ward.put(*range(40, 60))
    step = ward.publish()
    assert step is not None
    assert not step.gone
    after = held(ward)
    assert {number: after[number] for number in before} == before
    assert all(ward.state.held[number].atom.size >= LEAST for number in step.changed)


def test_an_erasure_withdraws_the_whole_atom_for_good() -> None:
    ward = Ward()
    ward.put(*range(30))
    ward.publish()
    person = Person.of(ward.packets[7], ward.rules.secret)
    [atom] = [each for each in ward.state.held.values() if Member(person.who, person.episode) in each.members]
    del ward.packets[7]
    step = ward.publish()
    assert step is not None
    assert step.gone == {atom.atom.number}
    assert not step.changed
    assert ward.publish() is None
    others = {member.episode for member in atom.members}
    ward.put(7, *range(100, 130))  # and the erased one comes back, too
    ward.publish()
    assert not others & set().union(*held(ward).values())


def test_outcomes_are_told_once_they_are_known_of_enough_and_then_stay() -> None:
    ward = Ward(rules(5))
    ward.put(*range(9), outcomes={"died": None, "cost": None})
    ward.publish()
    [atom] = ward.state.held.values()
    assert atom.atom.figures == {}
    for number in range(4):
        ward.put(number, seq=2, outcomes={"died": None, "cost": 100.0 + number})
        assert ward.publish() is None
    ward.put(4, seq=2, outcomes={"died": None, "cost": 104.0})
    step = ward.publish()
    assert step is not None
    assert step.changed == {atom.atom.number}
    [again] = ward.state.held.values()
    assert (again.atom.figures["cost"].n, again.atom.figures["cost"].mean) == (5, 102.0)
    for number in range(9):
        ward.put(number, seq=3, outcomes={"died": None, "cost": 7.0 + number})
        assert ward.publish() is None


@pytest.mark.parametrize("changes", [{"seq": 9}, {"time": 5.0}, {"fingerprint": np.ones(2, dtype=np.float32)}])
def test_what_is_loaded_or_encoded_again_is_not_new(changes: dict[str, object]) -> None:
    ward = Ward()
    ward.put(*range(30))
    ward.publish()
    for number in range(30):
        ward.packets[number] = replace(ward.packets[number], **changes)  # type: ignore[arg-type]
    assert ward.publish() is None


def test_an_outcome_that_is_the_same_of_everybody_is_not_told() -> None:
    ward = Ward()
    for number in range(30):
        ward.put(number, outcomes={"died": 0.0, "cost": float(number)})
    ward.publish()
    assert all("died" not in each.atom.figures and "cost" in each.atom.figures for each in ward.state.held.values())


def test_who_awaits_an_outcome_waits_in_the_pool() -> None:
    ward = Ward()
    for number in range(9):
        ward.put(number, outcomes={"died": None, "cost": 1.0 + number})
    assert ward.publish(now=20 * 86400.0) is None
    assert ward.publish(now=31 * 86400.0) is not None


def test_whose_episodes_are_over_keep_their_atom_until_they_are_enough() -> None:
    ward = Ward()
    ward.put(*range(3))
    ward.publish()
    for number in range(2):
        ward.put(number, seq=2, t0=50.0)
        assert ward.publish() is None
    ward.put(2, seq=2, t0=50.0)
    step = ward.publish()
    assert step is not None
    assert step.gone == {1}


def test_it_is_known_how_many_changes_nothing_can_come_of() -> None:
    """As many as `lacking` says less one, of any kind but erasure, never bring an epoch."""
    rng = np.random.default_rng(3)
    for _ in range(60):
        ward = Ward(rules(4, rng.bytes(32)))
        ward.put(*range(int(rng.integers(0, 40))))
        ward.publish()
        enough = lacking(ward.state, ward.persons(), ward.spent, ward.rules)
        assert enough >= 1
        for change in range(enough - 1):
            if ward.packets and rng.random() < 0.5:
                some = int(rng.choice(sorted(ward.packets)))
                outcomes = {"died": float(rng.random() < 0.5), "cost": float(rng.normal())}
                ward.packets[some] = replace(ward.packets[some], outcomes=outcomes)
            else:
                ward.put(1000 + change, action="ab"[int(rng.random() < 0.5)])
        assert ward.publish() is None


def test_the_same_persons_in_any_order_give_the_same_epoch() -> None:
    one, two = Ward(), Ward()
    one.put(*range(40))
    two.put(*reversed(range(40)))
    one.publish()
    two.publish()
    assert held(one) == held(two)
