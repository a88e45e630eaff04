"""What the journal has acknowledged is there after any end of the process; numbers are used once."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import lmdb
import pytest

from registry.errors import ConfigError, Corrupt, KindredError, StorageFull
from registry.publishing.journal import Entry, Journal

WRITER = """
import sys
from pathlib import Path
from registry.publishing.journal import Entry, Journal
journal = Journal(Path(sys.argv[1]))
number = journal.next_serial(0)
while True:
    journal.put("north", Entry(coverage={"serial": number, "regions": ["x" * 2000]}, received=1.5))
    print(number, journal.next_generation("crash"), flush=True)
    number = journal.next_serial(0)
"""


def test_entries_and_numbers_survive(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deep" / "journal")
    assert journal.entries() == {}
    assert journal.last_serial() == 0
    first = Entry(coverage={"serial": 1, "regions": [0.1, 1e-300]}, received=1.25)
    journal.put("north", first)
    journal.put("south", Entry({"serial": 2}, 2.0, renewal={"sig": "é"}, renewal_received=3.0))
    assert [journal.next_serial(1000), journal.next_serial(1000), journal.next_serial(900)] == [1000, 1001, 1002]
    assert [journal.next_generation("a"), journal.next_generation("a"), journal.next_generation("b")] == [1, 2, 1]
    journal.close()
    journal = Journal(tmp_path / "deep" / "journal")
    assert journal.entries()["north"] == first
    assert journal.entries()["south"].renewal == {"sig": "é"}
    assert journal.last_serial() == 1002
    assert journal.next_generation("a") == 3
    journal.close()


def test_a_full_map_changes_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path, map_bytes=128 * 1024)
    kept = Entry(coverage={"serial": 1}, received=1.0)
    journal.put("north", kept)
    with pytest.raises(StorageFull, match="nothing was changed"):
        journal.put("north", Entry(coverage={"serial": 2, "regions": ["x" * 200_000]}, received=2.0))
    assert journal.entries() == {"north": kept}
    assert journal.next_serial(5) == 5
    journal.close()


def test_what_does_not_decode_is_named(tmp_path: Path) -> None:
    Journal(tmp_path).close()
    for spoilt in (b"{", b"[]", b'{"coverage": {}, "more": 1}'):
        with lmdb.open(str(tmp_path), max_dbs=3) as env, env.begin(write=True, db=env.open_db(b"networks")) as write:
            write.put(b"north", spoilt)
        journal = Journal(tmp_path)
        with pytest.raises(Corrupt, match="north"):
            journal.entries()
        journal.close()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(ConfigError, match="file"):
        Journal(tmp_path / "file")


def test_killed_while_writing(tmp_path: Path) -> None:
    last = (0, 0)
    for lines in (1, 40, 7):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(lines):
                number, generation = map(int, writer.stdout.readline().split())
                assert number > last[0]
                assert generation > last[1]
                last = (number, generation)
            writer.send_signal(signal.SIGKILL)
            for rest in writer.stdout.read().split("\n"):
                if len(rest.split()) == 2:
                    last = tuple(map(int, rest.split()))  # type: ignore[assignment]
        journal = Journal(tmp_path)
        assert journal.entries()["north"].coverage["serial"] >= last[0]
        assert journal.last_serial() >= last[0]
        journal.close()


def test_closing_waits_for_what_another_thread_is_writing(tmp_path: Path) -> None:
    """As when the registry stops while a publication is under way."""
    for turn in range(30):
        journal = Journal(tmp_path / str(turn), 1 << 20)
        begun = threading.Event()

        def write(journal: Journal = journal, begun: threading.Event = begun) -> None:
            with suppress(KindredError):
                for _ in range(3):
                    begun.set()
                    journal.next_serial(1)

        thread = threading.Thread(target=write)
        thread.start()
        begun.wait()
        journal.close()
        thread.join(10)
        assert not thread.is_alive()


CUTTER = """
import sys
from pathlib import Path
from registry.errors import Corrupt
from registry.publishing.journal import Entry, Journal

home = Path(sys.argv[1])
whole = (home / "data.mdb").read_bytes()
for cut in [*range(1, len(whole), 1021), len(whole) - 1]:
    (home / "data.mdb").write_bytes(whole[:cut])
    try:
        journal = Journal(home, 1 << 24)
        try:
            known = len(journal.entries())
            journal.put("later", Entry({"serial": 1}, 1.0))
            print(cut, known, journal.next_serial(1))
        finally:
            journal.close()
    except Corrupt as error:
        print(cut, error)
print("done")
"""


def test_a_journal_cut_anywhere_is_refused_by_name_or_has_lost_nothing(tmp_path: Path) -> None:
    """In a process of its own: what is mapped and not there would end it."""
    journal = Journal(tmp_path, 1 << 24)
    for number in range(12):
        journal.put(f"n{number}", Entry({"serial": number, "regions": "x" * 300 * number}, 1.0))
        journal.next_serial(5)
    journal.close()
    told = subprocess.run(
        [sys.executable, "-c", CUTTER, str(tmp_path)], check=True, capture_output=True, text=True, timeout=120
    ).stdout.splitlines()
    assert told.pop() == "done"
    assert len(told) > 50
    refused = [line for line in told if str(tmp_path) in line]
    assert refused
    assert all("journal" in line for line in refused)
    for line in told:
        if line not in refused:
            _, known, serial = map(int, line.split())
            assert (known, serial) == (12, 17)
