"""federation.yaml: the shipped one reads; a broken one is refused with file, line, path and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.configuration.config import FederationConfig
from registry.errors import ConfigError

ROOT = Path(__file__).parent.parent.parent

GOOD = f"""\
version: 1
registry: {{dns: "127.0.0.1:5300", http: "127.0.0.1:5380"}}
domains:
  crash.vehicles: {{schema: {ROOT}/examples/domains/crash.yaml}}
networks:
  one: {{domain: crash.vehicles, listen: "127.0.0.1:7301"}}
gateway: {{listen: "127.0.0.1:8080"}}
"""


def read(tmp_path: Path, text: str) -> FederationConfig:
    path = tmp_path / "federation.yaml"
    path.write_text(text)
    return FederationConfig.from_yaml(path)


def test_the_shipped_file() -> None:
    config = FederationConfig.from_yaml(ROOT / "federation.yaml")
    assert len(config.networks) == 127
    assert len(config.schemas()) == 7
    assert all(network.data is not None and network.data.is_file() for network in config.networks.values())
    assert config.networks["icu-mosf-w-sepsis"].where == {"cat1": "MOSF w/Sepsis"}
    assert config.networks["severity-55-plus-1"].where == {"dvcat": "55+", "frontal": 1}
    assert config.networks["drives-03"].where == {"hash": ["drive", 3, 12]}
    assert config.networks["strikes-unknown"].where == {"state": None}


def test_the_good_one_is_good(tmp_path: Path) -> None:
    config = read(tmp_path, GOOD)
    assert config.networks["one"].endpoint == "http://127.0.0.1:7301/one"
    assert config.data_dir == tmp_path / ".kindred"
    assert config.gateway.deadline == 1.0
    assert config.gateway.cache == 256 * 1024**2
    assert read(tmp_path, GOOD.replace('8080"', '8080", cache: 64MiB')).gateway.cache == 64 * 1024**2


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("version: 1", "version: 2", 1, "version"),
        ("version: 1", "version: [1", 2, ""),
        ("127.0.0.1:5300", "127.0.0.1", 2, "registry.dns"),
        ("127.0.0.1:5300", "127.0.0.1:70000", 2, "registry.dns"),
        ('http: "127.0.0.1:5380"', 'htpp: "127.0.0.1:5380"', 2, "htpp"),
        ("listen: \"127.0.0.1:8080\"", "listen: \"127.0.0.1:8080\", deadline: 5", 7, "500ms"),
        ('http: "127.0.0.1:5380"', 'http: "127.0.0.1:5380", ttl: {apex: 500ms}', 2, "whole seconds"),
        ('http: "127.0.0.1:5380"', 'http: "127.0.0.1:5380", ttl: {cell: ' + "9" * 400 + "s}", 2, "whole seconds"),
        ('http: "127.0.0.1:5380"', 'http: "127.0.0.1:5380", ttl: {negative: 25000d}', 2, "ttl.negative"),
        ('listen: "127.0.0.1:8080"', 'listen: "127.0.0.1:8080", cache: 200000', 7, "64MiB"),
        ('listen: "127.0.0.1:8080"', 'listen: "127.0.0.1:8080", cache: 1kB', 7, "gateway.cache"),
        ("domain: crash.vehicles,", "domain: crash.cars,", 6, "crash.cars"),
        ("  one:", "  One:", 6, "DNS label"),
        ("  one:", "  one-{column}:", 6, "each"),
        ("  one:", "  net:", 6, "DNS label"),
        ("listen: \"127.0.0.1:7301\"", "listen: \"127.0.0.1:7301\", engine: duckdb", 6, "engine"),
        ("listen: \"127.0.0.1:7301\"", "listen: \"127.0.0.1:7301\", key: secret", 6, "key"),
        ("listen: \"127.0.0.1:7301\"", "listen: \"127.0.0.1:7301\", serve: engine", 6, "cannot read embedded"),
        ("listen: \"127.0.0.1:7301\"", "listen: \"127.0.0.1:7301\", engine: etcd://h, serve: engine", 6, "read etcd"),
        ('listen: "127.0.0.1:8080"', 'listen: "127.0.0.1:8080", reading: {idle: 5}', 7, "500ms"),
        ('"127.0.0.1:8080"', '"127.0.0.1:8080", reading: {accounts: {nats: {user: x}}}', 7, "no engine"),
        ('"127.0.0.1:8080"', '"127.0.0.1:8080", reading: {accounts: {"nats://h": {user: x}}}', 7, "nats://h:4222"),
        ('"127.0.0.1:8080"', '"127.0.0.1:8080", reading: {accounts: {"nats://h:1": {password: x}}}', 7, "password"),
        ("version: 1\n", "version: 1\nversion: 1\n", 2, "version"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, line: int, says: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert f"federation.yaml:{line}" in caught.value.detail
    assert says in caught.value.detail


def test_two_networks_of_one_process_share_its_port(tmp_path: Path) -> None:
    more = 'networks:\n  two: {domain: crash.vehicles, process: p, listen: "127.0.0.1:1"}\n'
    more += '  three: {domain: crash.vehicles, process: p, listen: "127.0.0.1:2"}\n'
    with pytest.raises(ConfigError, match=r"process 'p' listens on 127\.0\.0\.1:1 already"):
        read(tmp_path, GOOD.replace("networks:\n", more))


def test_two_processes_cannot_share_a_port(tmp_path: Path) -> None:
    more = 'networks:\n  two: {domain: crash.vehicles, listen: "127.0.0.1:7301"}\n'
    with pytest.raises(ConfigError, match=r"7301 is taken by process 'two'"):
        read(tmp_path, GOOD.replace("networks:\n", more))


def test_a_missing_file_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"federation\.yaml"):
        FederationConfig.from_yaml(tmp_path / "federation.yaml")


def test_a_network_whose_engine_is_asked(tmp_path: Path) -> None:
    served = 'listen: "127.0.0.1:7301", engine: "nats://10.0.0.1,10.0.0.2:4223?history=5", serve: engine'
    config = read(tmp_path, GOOD.replace('listen: "127.0.0.1:7301"', served))
    one = config.networks["one"]
    assert one.endpoint == "http://127.0.0.1:7301/one"  # deposits
    assert one.asked_at == "nats://10.0.0.1:4222,10.0.0.2:4223/one?history=5"
    assert read(tmp_path, GOOD).networks["one"].asked_at == "http://127.0.0.1:7301/one"


@pytest.mark.parametrize(
    ("domain", "schema", "section", "says"),
    [
        ("medicine", "crash", "", "medicine: domains of medicine release aggregates"),
        ("crash.medicine", "crash", "", "crash.medicine: domains of medicine release aggregates"),
        ("a.crash.medicine", "crash", "", "domains of medicine release aggregates"),
        ("icu.medicine", "icu", ", release: packets", "the schema releases aggregates, and no packets"),
        ("crash.medicine", "crash", ", release: aggregates, min_cohort: 10", "in medicine min_cohort is 11 at least"),
        ("icu.medicine", "icu", ", min_cohort: 10", "in medicine min_cohort is 11 at least, not 10"),
        ("icu.survey", "icu", ", release: packets", "the schema releases aggregates, and no packets"),
        ("icu.survey", "icu", ", min_cohort: 1", "min_cohort is 5 at least, not 1"),
        ("crash.vehicles", "crash", ", release: aggregates", "min_cohort is 5 at least, not 1"),
        ("crash.medicine", "crash", ", release: aggregates, min_cohort: 11", None),
        ("icu.medicine", "icu", ", min_cohort: 20", None),
        ("icu.survey", "icu", ", min_cohort: 5", None),
        ("medicine.vehicles", "crash", "", None),
        ("crash.paramedicine", "crash", "", None),
    ],
)
def test_no_line_of_the_file_releases_packets_of_patients(
    tmp_path: Path, domain: str, schema: str, section: str, says: str | None
) -> None:
    text = GOOD.replace("/crash.yaml", f"/{schema}.yaml{section}").replace("crash.vehicles", domain)
    if says is None:
        assert read(tmp_path, text).schemas()
    else:
        with pytest.raises(ConfigError, match=rf"federation\.yaml: domains\..*{says}"):
            read(tmp_path, text).schemas()


def test_where_aggregates_are_released_the_engine_is_not_asked(tmp_path: Path) -> None:
    schema = (ROOT / "examples/domains/crash.yaml").read_text()
    assert "release: packets" in schema
    aggregates = schema.replace("release: packets", "release: aggregates").replace("min_cohort: 1", "min_cohort: 5")
    (tmp_path / "crash.yaml").write_text(aggregates)
    text = GOOD.replace(f"{ROOT}/examples/domains/", "")
    assert read(tmp_path, text).schemas()
    served = text.replace('listen: "127.0.0.1:7301"', 'listen: "127.0.0.1:7301", engine: mqtt://h, serve: engine')
    with pytest.raises(ConfigError, match="releases aggregates, and who asks at mqtt: reads every"):
        read(tmp_path, served).schemas()
