"""Keys and secondaries in federation.yaml: read, refused with file, line and path, and never shown."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from gateway.cli.up import make_keys
from gateway.configuration.config import FederationConfig
from registry.errors import ConfigError

ROOT = Path(__file__).parent.parent.parent
GOOD = f"""\
version: 1
data_dir: .
registry:
  dns: 127.0.0.1:5300
  http: 127.0.0.1:5380
  keys:
    transfer: {{secret: file:keys/transfer.tsig}}
    other: {{secret: env:OTHER_TSIG, algorithm: hmac-sha512}}
  secondaries:
    knot: {{notify: "[::1]:5302", key: transfer}}
  servers: {{ns1: [192.0.2.1, "2001:db8::1"]}}
  soa: {{refresh: 1m, retry: 5s, expire: 2d}}
  ds: ds.txt
domains:
  crash.vehicles: {{schema: {ROOT}/examples/domains/crash.yaml}}
gateway: {{listen: 127.0.0.1:8080}}
"""
SECRET = base64.b64encode(b"q" * 32).decode()


def read(home: Path, text: str) -> FederationConfig:
    (home / "federation.yaml").write_text(text)
    return FederationConfig.from_yaml(home / "federation.yaml")


def test_keys_are_read_from_where_they_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_TSIG", SECRET)
    config = read(tmp_path, GOOD)
    with pytest.raises(ConfigError, match=r"keys\.transfer: no readable secret in .*openssl rand -base64 32"):
        config.keys()
    make_keys(config)
    path = tmp_path / "keys" / "transfer.tsig"
    assert path.stat().st_mode & 0o777 == 0o600
    first = path.read_text()
    make_keys(config)
    assert path.read_text() == first
    keys = config.keys()
    assert (keys["transfer"].name, keys["transfer"].key.secret) == ("transfer.", base64.b64decode(first))
    assert (keys["other"].algorithm, keys["other"].key.secret) == ("hmac-sha512", b"q" * 32)
    secondary = config.registry.secondaries["knot"].secondary("knot", keys)
    assert (secondary.host, secondary.port, secondary.key) == ("::1", 5302, keys["transfer"])
    assert config.ds_file == tmp_path / "ds.txt"
    assert (config.registry.soa.refresh, config.registry.soa.expire) == (60, 172_800)


def test_a_secret_that_is_missing_or_broken_is_named_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = read(tmp_path, GOOD)
    make_keys(config)
    monkeypatch.delenv("OTHER_TSIG", raising=False)
    with pytest.raises(ConfigError, match=r"federation\.yaml: registry\.keys\.other: .*OTHER_TSIG"):
        config.keys()
    monkeypatch.setenv("OTHER_TSIG", "hunter2!")
    with pytest.raises(ConfigError, match="not base64") as caught:
        config.keys()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("secret: file:keys/transfer.tsig", f"secret: {SECRET}", 7, "file:PATH or env:NAME"),
        ("secret: file:keys/transfer.tsig", 'secret: "file:"', 7, "file:PATH or env:NAME"),
        ("hmac-sha512", "hmac-md5", 8, "registry.keys.other.algorithm"),
        ("key: transfer", "key: transver", 10, "registry.secondaries.knot.key"),
        ('"[::1]:5302"', '"[::1]"', 10, "registry.secondaries.knot.notify"),
        ("192.0.2.1", "192.0.2.256", 11, "registry.servers.ns1"),
        ('[192.0.2.1, "2001:db8::1"]', "[]", 11, "registry.servers.ns1"),
        ("{ns1:", "{vehicles:", 11, "the domain 'crash.vehicles' has this name"),
        ("crash.vehicles", "catalog", 15, "catalog.kindred.internal. is the catalog"),
        ("refresh: 1m", "refresh: 1", 12, "registry.soa.refresh"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, line: int, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, GOOD.replace(old, new))
    assert f"federation.yaml:{line}: " in caught.value.detail
    assert says in caught.value.detail
    assert SECRET[:8] not in caught.value.detail or new == f"secret: {SECRET}"
