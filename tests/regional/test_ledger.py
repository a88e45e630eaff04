"""What was published is on the disk before it is served, and is never forgotten."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from regional.releasing.ledger import Ledger
from regional.releasing.release import State, advance
from regional.releasing.withdrawals import Withdrawals
from registry.errors import Corrupt, Unavailable
from tests.regional.persons import Ward, rules


def told(state: State) -> object:
    """Everything in a state, comparable."""
    return (
        state.epoch,
        state.numbers,
        state.pages,
        dict(state.kept_back),
        {
            number: (each.members, each.page, dict(each.parts), dict(each.atom.figures), each.atom.place.tolist())
            for number, each in state.held.items()
        },
    )


def filled(path: Path) -> tuple[Ledger, Ward]:
    """A ledger after three epochs: atoms, new figures, a withdrawal."""
    ledger = Ledger(path)
    ward = Ward(rules(3, ledger.secret))
    ward.put(*range(40), outcomes={"cost": None, "died": None})
    for change in range(3):
        step = advance(ledger.state, ward.persons(), ledger, ward.rules, 1e9)
        assert step is not None
        ledger.commit(step)
        if change == 0:
            for number in range(20):
                ward.packets[number] = replace(ward.packets[number], outcomes={"cost": 100.0 + number, "died": None})
        else:
            del ward.packets[change]
    return ledger, ward


def test_all_of_it_is_there_after_a_restart(tmp_path: Path) -> None:
    ledger, ward = filled(tmp_path / "atoms")
    before, secret = told(ledger.state), ledger.secret
    marks = [person.episode for person in ward.persons()]
    ledger.close()
    again = Ledger(tmp_path / "atoms")
    assert told(again.state) == before
    assert again.secret == secret
    assert again.known([*marks, bytes(16)]) == [True] * len(marks) + [False]
    again.close()


def test_one_process_owns_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "atoms")
    with pytest.raises(Unavailable, match="in use"):
        Ledger(tmp_path / "atoms")
    ledger.close()


KILLED = """
import sys
from pathlib import Path
from regional.releasing.ledger import Ledger
from regional.releasing.release import advance
from tests.regional.persons import Ward, rules
ledger = Ledger(Path(sys.argv[1]))
ward = Ward(rules(3, ledger.secret))
for start in range(0, 10**6, 20):
    ward.put(*range(start, start + 20))
    step = advance(ledger.state, ward.persons(), ledger, ward.rules, 1e9)
    if step is not None:
        ledger.commit(step)
        print(step.state.epoch, len(step.state.held), flush=True)
"""


@pytest.mark.parametrize("after", [2, 5, 9])
def test_a_killed_process_loses_no_epoch_that_it_could_have_served(tmp_path: Path, after: int) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "atoms")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(after):
        said = process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    said = process.stdout.readlines()[-1:] or [said]  # type: ignore[assignment]
    process.stdout.close()
    epoch, held = map(int, said[0].split())
    ledger = Ledger(tmp_path / "atoms")
    assert ledger.state.epoch >= epoch
    assert len(ledger.state.held) >= held
    assert len(ledger.known([m.episode for each in ledger.state.held.values() for m in each.members])) >= 3 * held
    assert all(ledger.known([m.episode for each in ledger.state.held.values() for m in each.members]))
    ledger.close()


def test_withdrawals_are_remembered_without_a_name(tmp_path: Path) -> None:
    path = tmp_path / "withdrawn" / "one"
    log = Withdrawals(path)
    receipt = log.add(b"patient-17", 4, 1000.0)
    assert len(receipt) == 64
    log.note_epoch(6)
    log.close()
    assert b"patient-17" not in path.read_bytes()
    with path.open("ab") as cut:
        cut.write(b'{"node":"12')  # as a crash leaves it
    again = Withdrawals(path)
    assert (again.seq(b"patient-17"), again.seq(b"x")) == (4, None)
    assert again.receipt(b"patient-17") == receipt
    assert again.epoch == 6
    again.add(b"patient-18", 1, 1001.0)
    again.close()
    third = Withdrawals(path)
    assert third.seq(b"patient-18") == 1
    assert len(third) == 2
    third.close()


def test_a_log_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one"
    path.write_bytes(b"hello\n")
    with pytest.raises(Corrupt, match="withdrawals"):
        Withdrawals(path)
