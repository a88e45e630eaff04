"""The signed edge: a registry as hidden primary, and Knot that signs what it publishes and answers for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.peers.peers import Peer, ask, output_of, serving, until
from tests.peers.primary import ORIGIN, RunningPrimary, running_primary


@dataclass(frozen=True, slots=True)
class SignedEdge:
    """host, port: of Knot. anchor: the origin's key-signing key, a DNSKEY record in text; ds: its DS records.

    The domains are tied to the origin by DS records, as the registry publishes them.
    """

    host: str
    port: int
    anchor: str
    ds: tuple[str, ...]
    primary: RunningPrimary
    knot: Peer

    async def keymgr(self, zone: str, *arguments: str) -> str:
        """What Knot's keymgr says of a zone's keys."""
        return await output_of("keymgr", "-c", self.knot.configuration, zone, *arguments)

    async def knotc(self, *arguments: str) -> str:
        """Tell the running server something."""
        return await output_of("knotc", "-c", self.knot.configuration, *arguments)

    @property
    def zones(self) -> list[str]:
        return [ORIGIN, *(f"{domain}.{ORIGIN}" for domain in self.primary.domains)]


async def tie(primary: RunningPrimary, knot: Peer) -> None:
    """Hand the DS records of the domains' keys to the registry, which publishes them."""
    lines = [
        await output_of("keymgr", "-c", knot.configuration, f"{domain}.{ORIGIN}", "ds") for domain in primary.domains
    ]
    (primary.home / "ds.new").write_text("".join(lines))
    (primary.home / "ds.new").rename(primary.home / "ds.txt")


def signer(primary: RunningPrimary, home: Path, **words: str) -> Peer:
    """Knot with the shipped configuration. words: parts of it that are to read otherwise."""
    given = {
        "SECRET": primary.secret,
        "PRIMARY": f"{primary.host}@{primary.port}",
        "ORIGIN": ORIGIN.removesuffix("."),
    }
    return Peer("knot", "knot-signer.conf", home / "knot-signer", {**words, **given})


@asynccontextmanager
async def signed_edge(home: Path, words: dict[str, str] | None = None, **registry: object) -> AsyncIterator[SignedEdge]:
    """Registry and signer, with one coverage published and every domain's chain to the origin whole."""
    async with running_primary(home / "registry", ds="ds.txt", **registry) as primary:
        primary.write()
        knot = signer(primary, home, **(words or {}))
        primary.secondaries = {"knot": knot.port}
        await primary.start()
        async with serving(knot):
            for domain in primary.domains:
                await knot.has(f"{domain}.{ORIGIN}", 1)
            await knot.has(ORIGIN, 1)
            await tie(primary, knot)
            await primary.cover("north")

            async def tied() -> bool:
                answers = [await knot.ask(f"{domain}.{ORIGIN}", "DS") for domain in primary.domains]
                return all(answer is not None and bool(answer.answer) for answer in answers)

            await until(tied, lambda: knot.log[-3000:])
            keys = (await output_of("keymgr", "-c", knot.configuration, ORIGIN, "dnskey")).split("\n")
            ds = (await output_of("keymgr", "-c", knot.configuration, ORIGIN, "ds")).split("\n")
            yield SignedEdge("127.0.0.1", knot.port, keys[0].strip(), tuple(filter(None, ds)), primary, knot)


async def signed_answer(edge: SignedEdge, name: str, rtype: str) -> str:
    """An answer of the edge with its signatures, as text."""
    answer = await ask(edge.port, name, rtype, tcp=True, dnssec=True)
    assert answer is not None
    return answer.to_text()
