"""Names on the wire."""

from __future__ import annotations

import pytest

from registry.dns.wire import labels_to_text, name_at, name_to_wire, skip_name
from registry.errors import LookupFailed


def test_names_there_and_back() -> None:
    wire = name_to_wire("PSU-02.net.crash.vehicles.kindred.internal.")
    assert wire == b"\x06psu-02\x03net\x05crash\x08vehicles\x07kindred\x08internal\x00"
    assert labels_to_text(wire[:-1]) == "psu-02.net.crash.vehicles.kindred.internal"
    assert name_to_wire(".") == b"\0"


def test_compressed_names_are_followed_backwards() -> None:
    message = b"\x01B\x00\x01a\xc0\x00\xc0\x03"
    assert name_at(message, 7) == b"\x01a\x01b\x00"
    assert skip_name(message, 3) == 7
    assert skip_name(message, 0) == 3


@pytest.mark.parametrize(
    "message", [b"\xc0\x00", b"\xc0\x02\x01a\x00", b"\x01a\xc0\x00", b"\x40a\x00", b"\x05ab", b"\xc0", b"\x01a"]
)
def test_names_that_are_none(message: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        name_at(message, 0)


@pytest.mark.parametrize("message", [b"\x40a\x00", b"\x05ab", b"\xc0", b"\x01a"])
def test_names_that_do_not_end(message: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        skip_name(message, 0)


@pytest.mark.parametrize("labels", [b"\x03ab", b"\xc0\x0c", b"\x03a b", b"\x03a.b", b"\x02\xc3\xa9", b"\x00"])
def test_labels_that_are_no_text(labels: bytes) -> None:
    with pytest.raises(LookupFailed):
        labels_to_text(labels)
