"""One line of federation.yaml changed, everything else as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.configuration.config import FederationConfig
from gateway.configuration.rewriting import rewrite_engine, stands_alone
from registry.errors import ConfigError

ROOT = Path(__file__).parents[2]
FILE = f"""\
version: 1   # the first
registry: {{dns: 127.0.0.1:5300, http: 127.0.0.1:5380}}
domains:
  crash.vehicles: {{schema: {ROOT}/examples/domains/crash.yaml}}
networks:
  plain:   # here
    domain: crash.vehicles # of it

    listen: 127.0.0.1:7301
  told: {{domain: crash.vehicles, listen: 127.0.0.1:7302, engine: embedded}}   # in one line
  short: {{domain: crash.vehicles, listen: 127.0.0.1:7303 }}
  long:
    domain: crash.vehicles
    engine:   # where
      at: nats://127.0.0.1/long
      user: kindred
      password: env:WORD
    listen: 127.0.0.1:7304   # last
  many-{{n}}: {{domain: crash.vehicles, listen: 127.0.0.1:7305, process: many, each: {{n: [1, 2]}}}}
gateway: {{listen: 127.0.0.1:8080}}
"""
GUARDED = {"at": "redis://127.0.0.1/x?db=1", "user": "kindred", "password": "file:a word"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "federation.yaml"
    path.write_text(FILE)
    path.chmod(0o640)
    return path


@pytest.mark.parametrize("name", ["plain", "told", "short", "long"])
@pytest.mark.parametrize("engine", [{"at": "embedded"}, {"at": "etcd://127.0.0.1:2379,[::1]:2380/x"}, GUARDED])
def test_one_line(file: Path, name: str, engine: dict[str, str]) -> None:
    rewrite_engine(file, name, engine)
    after = FederationConfig.from_yaml(file)
    assert after.networks[name].engine.model_dump(mode="json", exclude_none=True) == engine
    lines, before = file.read_text().splitlines(), FILE.splitlines()
    changed = [line for line in lines if line not in before]
    assert len(changed) <= 1
    assert {line for line in before if line not in lines} <= {
        line for line in before if name in line or "at: nats" in line or "user:" in line or "env:WORD" in line
        or "engine:   # where" in line
    }  # fmt: skip
    for comment in ("# the first", "# here", "# of it", "# in one line", "# last"):
        assert comment in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in file.parent.iterdir()] == ["federation.yaml"]
    rewrite_engine(file, name, {"at": "nats://127.0.0.1:4222/again"})
    assert FederationConfig.from_yaml(file).networks[name].engine.at == "nats://127.0.0.1:4222/again"


def test_what_stands_for_several_is_left_alone(file: Path) -> None:
    config = FederationConfig.from_yaml(file)
    assert [stands_alone(config, name) for name in ("plain", "many-1")] == [True, False]
    with pytest.raises(ConfigError, match="many-1 has no entry of its own"):
        rewrite_engine(file, "many-1", {"at": "embedded"})
    assert file.read_text() == FILE


def test_what_would_not_be_read_stays_as_it_was(file: Path) -> None:
    with pytest.raises(ConfigError):
        rewrite_engine(file, "plain", {"at": "ftp://127.0.0.1"})
    assert file.read_text() == FILE
    assert [each.name for each in file.parent.iterdir()] == ["federation.yaml"]
