"""The parts of federation.yaml that speak of other registries: who serves what, and what is refused where."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.configuration.config import FederationConfig
from registry.errors import ConfigError

ROOT = Path(__file__).parent.parent.parent
DIGEST = "ab" * 32
GOOD = f"""\
version: 1
registry:
  dns: 127.0.0.1:5300
  http: 127.0.0.1:5380
  delegations:
    medicine: {{servers: {{ns.medicine: [127.0.0.2]}}, ds: [12345 13 2 {DIGEST}]}}
    asia: {{servers: {{ns.asia: [127.0.0.3, "::1"], ns.example.net.: []}}}}
  subtrees:
    asia: {{domain: crash.vehicles, origin: asia.kindred.internal.}}
  parents:
    crash.vehicles: {{registry: 127.0.0.9:5380, origin: world.internal., name: here}}
domains:
  icu.medicine: {{schema: {ROOT}/examples/domains/icu.yaml}}
  crash.vehicles: {{schema: {ROOT}/examples/domains/crash.yaml}}
networks:
  one: {{domain: crash.vehicles, listen: "127.0.0.1:7301"}}
gateway: {{listen: "127.0.0.1:8080"}}
"""


def read(tmp_path: Path, text: str) -> FederationConfig:
    path = tmp_path / "federation.yaml"
    path.write_text(text)
    return FederationConfig.from_yaml(path)


def test_what_is_delegated_is_known_but_not_served(tmp_path: Path) -> None:
    config = read(tmp_path, GOOD)
    assert config.served == ["crash.vehicles"]
    assert set(config.schemas()) == {"icu.medicine", "crash.vehicles"}
    medicine, asia = config.cuts()
    assert medicine.name == "medicine.kindred.internal."
    assert medicine.servers == {"ns.medicine.kindred.internal.": ("127.0.0.2",)}
    assert medicine.ds == (b"\x30\x39\x0d\x02" + b"\xab" * 32,)
    assert asia.servers == {"ns.asia.kindred.internal.": ("127.0.0.3", "::1"), "ns.example.net.": ()}


def test_the_shipped_registries() -> None:
    found = {path.stem: FederationConfig.from_yaml(path) for path in (ROOT / "examples" / "registries").glob("*.yaml")}
    assert {name: config.served for name, config in found.items()} == {
        "root": ["rice.agriculture"],
        "medicine": ["icu.medicine"],
        "vehicles": ["crash.vehicles"],
        "asia": ["rice.agriculture"],
    }
    for config in found.values():
        assert all(network.data is not None and network.data.is_file() for network in config.networks.values())


def test_a_registry_of_one_zone_serves_what_is_below_it(tmp_path: Path) -> None:
    text = GOOD[: GOOD.index("  delegations")] + "  zone: vehicles\n" + GOOD[GOOD.index("domains:") :]
    assert read(tmp_path, text).served == ["crash.vehicles"]


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("{ns.medicine: [127.0.0.2]}", "{}", 6, "servers"),
        ("[127.0.0.2]", "[127.0.0.256]", 6, "servers.ns.medicine"),
        ("[127.0.0.2]", "[]", 6, "glue"),
        ("ns.medicine:", "ns..medicine:", 6, "no name of a server"),
        ("12345 13 2", "123456 13 2", 6, "DS record"),
        (DIGEST, "abcd", 6, "32 octets"),
        ("    asia: {servers", "    eu.medicine: {servers", 7, "delegated already"),
        ("    asia: {servers", "    west.crash.vehicles: {servers", 7, "served here"),
        ("  dns: 127.0.0.1:5300", "  dns: 127.0.0.1:5300\n  zone: vehicles", 7, "not below this registry's zone"),
        ("  dns: 127.0.0.1:5300", "  dns: 127.0.0.1:5300\n  zone: crash.vehicles", 4, "a zone above the domains"),
        ("{domain: crash.vehicles, origin: asia", "{domain: icu.medicine, origin: asia", 9, "not served here"),
        ("origin: asia.kindred.internal.", "origin: kindred.internal.", 9, "a referral to itself"),
        ("origin: asia.kindred.internal.", "origin: asia.kindred.internal", 9, "absolute"),
        ("origin: asia.kindred.internal.", "origin: world.internal.", 11, "a circle"),
        ("origin: world.internal.", "origin: kindred.internal.", 11, "registry's own"),
        ("    crash.vehicles: {registry", "    icu.medicine: {registry", 11, "not served here"),
        ("one: {domain: crash.vehicles", "one: {domain: icu.medicine", 16, "by another"),
        (
            "    asia: {domain",
            "    alps: {domain: crash.vehicles, origin: asia.kindred.internal.}\n    asia: {domain",
            10,
            "leads to asia.kindred.internal. already",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_line(tmp_path: Path, old: str, new: str, line: int, says: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert f"federation.yaml:{line}: " in refused.value.detail
    assert says in refused.value.detail
