"""Knot as signer and public face: others validate what it says, and its keys roll over."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers.knot_signed import SignedEdge, signed_edge
from tests.peers.peers import output_of
from tests.peers.primary import ORIGIN

CRASH = f"crash.vehicles.{ORIGIN}"


async def delv(edge: SignedEdge, home: Path, name: str, rtype: str) -> str:
    """What delv, which validates by itself, says of a question."""
    owner, _, flags, protocol, algorithm, *key = edge.anchor.split(" ", 6)[:6] + edge.anchor.split(" ")[6:]
    anchors = home / "anchors"
    anchors.write_text(f'trust-anchors {{ "{ORIGIN}" static-key {flags} {protocol} {algorithm} "{"".join(key)}"; }};\n')
    return await output_of(
        "delv", "@127.0.0.1", "-p", str(edge.port), "-a", anchors, f"+root={ORIGIN}", name, rtype, ok=False
    )


@pytest.mark.parametrize("tcp", [False])
async def test_delv_agrees(tmp_path: Path, tcp: bool) -> None:
    async with signed_edge(tmp_path) as edge:
        print(edge.anchor)
        for name, rtype in ((CRASH, "TXT"), (f"g2.{CRASH}", "SVCB"), (f"nobody.{CRASH}", "SVCB"), (CRASH, "URI")):
            print(await delv(edge, tmp_path, name, rtype))
        assert 0
