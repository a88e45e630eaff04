"""Where an engine's server is: read, or refused in words; its secrets never in the file."""

from pathlib import Path

import pytest

from gateway.configuration.keeping import EngineSection
from regional.engines.address import EngineAddress, secret
from registry.errors import ConfigError


def test_an_address_with_all_its_parts():
    address = EngineAddress.parse("nats://127.0.0.1:5222,[::1],host-b/farms-7?history=5", "net")
    assert address.servers == (("127.0.0.1", 5222), ("::1", 4222), ("host-b", 4222))
    assert (address.scheme, address.name) == ("nats", "farms-7")
    assert address.number("history", 1, 64) == 5
    assert address.number("replicas", 3, 5) == 3


def test_without_a_name_the_networks_own():
    assert EngineAddress.parse("redis://127.0.0.1", "net-7").where == "redis://127.0.0.1:6379/net-7"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("embeded", "no engine ''; there are embedded, nats:"),
        ("ftp://x/y", "no engine 'ftp'"),
        ("nats://user:sesame@127.0.0.1/x", "credentials stand beside the address"),
        ("nats://127.0.0.1:99999/x", "is not host:port"),
        ("nats://127.0.0.1:x/x", "is not host:port"),
        ("nats:///x", "is not host:port"),
        ("nats://127.0.0.1/x/y", "letters, digits and hyphens"),
    ],
)
def test_what_is_wrong_is_said(url, message):
    with pytest.raises(ConfigError, match=message) as refusal:
        EngineAddress.parse(url, "net")
    assert "sesame" not in refusal.value.detail


@pytest.mark.parametrize("text", ["0", "65", "-1", "x", ""])
def test_options_are_checked(text):
    address = EngineAddress.parse(f"nats://127.0.0.1/x?history={text}", "net")
    with pytest.raises(ConfigError, match="a whole number from 1 to 64"):
        address.number("history", 1, 64)
    with pytest.raises(ConfigError, match="there is no option 'history'; there are: db"):
        address.only("db")


def test_secrets_are_in_files_or_the_environment(tmp_path: Path, monkeypatch):
    (tmp_path / "word").write_text("open sesame\n")
    monkeypatch.setenv("KINDRED_WORD", "sesame")
    assert secret("file:word", tmp_path) == "open sesame"
    assert secret("env:KINDRED_WORD", tmp_path) == "sesame"
    for reference in ("file:none", "env:KINDRED_NONE", "sesame", "file:", "env:"):
        with pytest.raises(ConfigError, match="secret"):
            secret(reference, tmp_path)


def test_a_password_is_not_shown():
    address = EngineAddress("nats", (("h", 1),), "x", password="sesame")  # noqa: S106
    assert "sesame" not in repr(address)


@pytest.mark.parametrize(
    ("at", "history", "told"),
    [("nats://h/x", 5, "nats://h/x?history=5"), ("nats://h/x?replicas=1", 2, "nats://h/x?replicas=1&history=2")],
)
def test_a_history_is_asked_of_the_engine_that_keeps_it(at, history, told):
    assert EngineSection(at=at).with_history(history).at == told
    assert EngineSection(at="embedded").with_history(history).at == "embedded"
    for refused in ("redis://h/x", "etcd://h/x", "mqtt://h/x", "milvus://h/x"):
        assert EngineSection(at=refused).with_history(1).at == refused
        with pytest.raises(ConfigError, match="keeps the current packet alone"):
            EngineSection(at=refused).with_history(history)
    with pytest.raises(ConfigError, match="name it once"):
        EngineSection(at="nats://h/x?history=3").with_history(history)
