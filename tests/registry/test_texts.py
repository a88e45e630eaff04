"""TXT strings of apex and network: there and back, and what is refused."""

from __future__ import annotations

import pytest
from sample_zones import entry, publication

from registry.errors import ConfigError, LookupFailed
from registry.zones.texts import ApexText, NetworkText


def test_apex_round_trip_in_the_documented_form() -> None:
    text = publication(actions=("belt", "air bag = yes"), schema_url="http://127.0.0.1:8053/v1/x").text
    strings = text.strings()
    assert strings[:2] == (b"v=kindred1", b"gen=17")
    assert strings[2] == b"space=" + bytes(range(32)).hex().encode()
    assert strings[4:] == (b"d=24", b"schema-url=http://127.0.0.1:8053/v1/x", b"action=belt", b"action=air bag = yes")
    assert ApexText.from_strings(strings) == text
    assert ApexText.from_strings([*strings, b"later=1", b"flag", b""]) == text


def test_network_round_trip() -> None:
    text = entry(lapsed=True)
    read = NetworkText.from_strings(text.strings())
    assert read.strings() == text.strings()
    assert (read.serial, read.issued, read.lease_s, read.lapsed) == (12, 1_799_999_990.25, 120.0, True)
    assert (read.packets, read.uncovered, read.engine) == (800, 3, "embedded")


@pytest.mark.parametrize(
    ("string", "replacement"),
    [
        (b"v=kindred1", b"v=kindred2"),
        (b"v=kindred1", b""),
        (b"gen=17", b"gen=-1"),
        (b"gen=17", b"gen=1e3"),
        (b"gen=17", "gen=١٧".encode()),
        (b"gen=17", b"gen=" + b"9" * 40),
        (b"gen=17", b"gen=17\xff"),
        (b"d=24", b"d=0"),
        (b"d=24", b"d=129"),
        (b"action=belt", b"action="),
        (b"action=belt", b"action=none"),
    ],
)
def test_apex_refuses(string: bytes, replacement: bytes) -> None:
    strings = [replacement if each == string else each for each in publication().text.strings()]
    with pytest.raises(LookupFailed, match="TXT"):
        ApexText.from_strings(strings)


@pytest.mark.parametrize(
    "wrong", [b"issued=nan", b"issued=-1", b"lease=inf", b"lease=soon", b"lapsed=2", b"serial=", b"packets=1.5"]
)
def test_network_refuses(wrong: bytes) -> None:
    key = wrong.partition(b"=")[0] + b"="
    strings = [wrong if each.startswith(key) else each for each in entry().strings()]
    with pytest.raises(LookupFailed, match=key.decode()):
        NetworkText.from_strings(strings)


def test_a_repeated_string_is_refused() -> None:
    with pytest.raises(LookupFailed, match="twice"):
        ApexText.from_strings([*publication().text.strings(), b"d=24"])


@pytest.mark.parametrize("field", [b"space=" + b"0" * 63, b"space=" + b"zz" * 32, b"space=" + b"00 " * 32])
def test_digests_are_64_hexadecimal_digits(field: bytes) -> None:
    strings = [field if each.startswith(b"space=") else each for each in publication().text.strings()]
    with pytest.raises(LookupFailed, match="hexadecimal"):
        ApexText.from_strings(strings)


def test_a_missing_string_is_named() -> None:
    with pytest.raises(LookupFailed, match="lease= is missing"):
        NetworkText.from_strings([each for each in entry().strings() if not each.startswith(b"lease=")])


def test_what_does_not_fit_a_string_is_refused() -> None:
    with pytest.raises(ConfigError, match="255"):
        publication(actions=("é" * 125,)).text.strings()
