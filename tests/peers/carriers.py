"""What carries a running registry's records to gateways: Unbound before it, Knot that signs, and files that say so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from gateway.configuration.config import FederationConfig
from tests.peers.peers import Peer, output_of, serving, until

ORIGIN = "kindred.internal."
TRANSFERRED = {"action: notify": "action: [notify, transfer]"}  # others may transfer by the same key
RE_SIGNED = {"rrsig-refresh: 7d": "rrsig-refresh: 20140m\n    rrsig-pre-refresh: 5m"}


def unbound(home: Path, port: int) -> Peer:
    """Asks the server on this port of loopback for all names of the origin."""
    words = {"LISTEN": "127.0.0.1", "PRIMARY": f"127.0.0.1@{port}", "ORIGIN": ORIGIN.removesuffix(".")}
    return Peer("unbound", "unbound.conf", home / "unbound", words)


def carried(config: FederationConfig, name: str, **resolver: Any) -> FederationConfig:
    """The same federation with another resolver."""
    source = Path(config.file)
    document = yaml.safe_load(source.read_text())
    document["gateway"]["resolver"] = resolver
    path = source.with_name(f"{name}.yaml")
    path.write_text(yaml.safe_dump(document))
    return FederationConfig.from_yaml(path)


@asynccontextmanager
async def signed_by_knot(config: FederationConfig, home: Path) -> AsyncIterator[tuple[Peer, Path]]:
    """Knot as signer before a running registry whose file has it as the secondary `knot`, every domain tied to the
    origin; and a file with the origin's anchor."""
    secret = (config.data_dir / "keys" / "transfer.tsig").read_text().strip()
    primary = f"127.0.0.1@{config.registry.dns.port}"
    words = {"SECRET": secret, "PRIMARY": primary, "ORIGIN": ORIGIN.removesuffix("."), **RE_SIGNED, **TRANSFERRED}
    port = config.registry.secondaries["knot"].notify.port
    knot = Peer("knot", "knot-signer.conf", home / "knot", words, port)
    async with serving(knot):
        zones = [f"{domain}.{ORIGIN}" for domain in config.domains]
        for zone in [ORIGIN, *zones]:
            await knot.has(zone, 1)
        ds = [await output_of("keymgr", "-c", knot.configuration, zone, "ds") for zone in zones]
        assert config.ds_file is not None
        config.ds_file.write_text("".join(ds))
        anchor = home / "anchor"
        anchor.write_text(await output_of("keymgr", "-c", knot.configuration, ORIGIN, "ds"))

        async def tied() -> bool:
            found = [await knot.ask(zone, "DS") for zone in zones]
            return all(answer is not None and bool(answer.answer) for answer in found)

        await until(tied)
        yield knot, anchor
