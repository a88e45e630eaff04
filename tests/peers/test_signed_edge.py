"""Knot as signer and public face: others validate what it says, and its keys roll over."""

from __future__ import annotations

from pathlib import Path

from tests.peers.knot_signed import SignedEdge, signed_edge
from tests.peers.peers import output_of
from tests.peers.primary import ORIGIN

CRASH = f"crash.vehicles.{ORIGIN}"


async def delv(edge: SignedEdge, home: Path, name: str, rtype: str) -> str:
    """What delv, which validates by itself, says of a question."""
    _, _, flags, protocol, algorithm, key = edge.anchor.split(" ", 5)
    anchors = home / "anchors"
    text = key.replace(" ", "")
    anchors.write_text(f'trust-anchors {{ "{ORIGIN}" static-key {flags} {protocol} {algorithm} "{text}"; }};\n')
    return await output_of(
        "delv", "@127.0.0.1", "-p", str(edge.port), "-a", anchors, f"+root={ORIGIN}", name, rtype, ok=False
    )


async def test_delv_agrees(tmp_path: Path) -> None:
    async with signed_edge(tmp_path) as edge:
        for name, rtype in ((CRASH, "TXT"), (f"g2.{CRASH}", "SVCB"), (f"north.net.{CRASH}", "URI"), (CRASH, "DS")):
            assert "; fully validated" in await delv(edge, tmp_path, name, rtype), name
        for name, rtype, why in ((f"nobody.{CRASH}", "SVCB", "nxdomain"), (CRASH, "URI", "nxrrset")):
            answer = await delv(edge, tmp_path, name, rtype)
            assert "; negative response, fully validated" in answer
            assert f"ncache {why}" in answer
