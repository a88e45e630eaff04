"""Zones that others find nothing wrong with: those of the registry, and those that Knot has signed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.peers.knot_signed import SignedEdge, signed_edge
from tests.peers.peers import output_of
from tests.peers.primary import ORIGIN, RunningPrimary, running_primary


@pytest.fixture
async def primary(tmp_path: Path) -> AsyncIterator[RunningPrimary]:
    """With coverages, and cells of two depths."""
    async with running_primary(tmp_path / "registry") as started:
        await started.start()
        await started.cover("north", 60)
        await started.cover("west")
        yield started


def zones(primary: RunningPrimary) -> list[str]:
    return [ORIGIN, *(f"{domain}.{ORIGIN}" for domain in primary.domains)]


async def transferred(primary: RunningPrimary, zone: str, home: Path) -> Path:
    """The zone as a master file, as dig transfers it."""
    text = await output_of(
        "dig", f"@{primary.host}", "-p", str(primary.port), "-y", f"hmac-sha256:transfer:{primary.secret}",
        zone, "AXFR", "+noall", "+answer", "+onesoa",
    )  # fmt: skip
    path = home / f"{zone}zone"
    path.write_text("".join(f"{line}\n" for line in text.splitlines() if " TSIG " not in line.replace("\t", " ")))
    return path


async def test_the_registrys_zones(primary: RunningPrimary, tmp_path: Path) -> None:
    for zone in zones(primary):
        file = await transferred(primary, zone, tmp_path)
        name = zone.removesuffix(".")
        assert " SOA " in file.read_text().replace("\t", " ")
        assert "OK" in await output_of("named-checkzone", "-k", "fail", "-i", "local", name, file)
        assert "is ok" in await output_of("nsd-checkzone", name, file)
        assert "error" not in (await output_of("kzonecheck", "-o", zone, file)).lower()


async def test_the_signed_zones(tmp_path: Path) -> None:
    async with signed_edge(tmp_path) as edge:
        flushed = tmp_path / "flushed"
        flushed.mkdir()
        for zone in edge.zones:
            await edge.knotc("-b", "zone-flush", "+outdir", str(flushed), zone)
            file = flushed / f"{zone}zone"
            assert "RRSIG" in file.read_text()
            await checked(edge, zone, file, tmp_path)


async def checked(edge: SignedEdge, zone: str, file: Path, home: Path) -> None:
    anchor = home / "anchor"
    anchor.write_text((await edge.keymgr(zone, "dnskey")).splitlines()[0].replace(" DNSKEY ", " 300 IN DNSKEY ") + "\n")
    assert "Zone is verified and complete" in await output_of("ldns-verify-zone", "-k", anchor, file)
    assert "error" not in (await output_of("kzonecheck", "-d", "on", "-o", zone, file)).lower()
    assert "Zone fully signed" in await output_of("dnssec-verify", "-o", zone, file)
