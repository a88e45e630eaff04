"""A whole small DNS in a network namespace of its own: `unshare -n python -m tests.peers.namespace HOME`.

A root, a registry behind a signing Knot on public-looking addresses and port 53, and zonemaster, which looks at every
zone of the registry. Writes a JSON object: what zonemaster has to say, by zone.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from tests.peers.knot_signed import signed_edge
from tests.peers.peers import Peer, output_of, serving
from tests.peers.primary import ORIGIN
from tests.programs import program

ROOT = "198.41.0.4"
EDGE = ("5.45.107.1", "91.220.43.1")
TESTS = ("basic", "address", "consistency", "delegation", "dnssec", "nameserver", "syntax", "zone")

_ROOT_CONF = """server:
    ip-address: {root}@53
    username: ""
    zonesdir: "{home}"
    pidfile: "{home}/nsd.pid"
    xfrdfile: "{home}/xfrd.state"
    xfrdir: "{home}"
    zonelistfile: "{home}/zone.list"
    database: ""
remote-control:
    control-enable: no
zone:
    name: .
    zonefile: "{home}/root.zone"
"""
_ROOT_ZONE = """$TTL 3600
. SOA a.root-servers.net. hostmaster.root-servers.net. 1 3600 600 864000 3600
. NS a.root-servers.net.
a.root-servers.net. A {root}
{origin} NS ns1.{origin}
{origin} NS ns2.{origin}
{glue}
{ds}
"""


class FakeRoot(Peer):
    """NSD with a root zone that delegates the origin."""

    def write(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.configuration.write_text(_ROOT_CONF.format(root=ROOT, home=self.home))
        glue = "\n".join(f"ns{n}.{ORIGIN} A {address}" for n, address in enumerate(EDGE, 1))
        zone = _ROOT_ZONE.format(root=ROOT, origin=ORIGIN, glue=glue, ds=self.words["DS"])
        (self.home / "root.zone").write_text(zone)

    async def _answers(self) -> bool:
        return "SOA" in await output_of("dig", f"@{ROOT}", ".", "SOA", "+tries=1", "+time=1", ok=False)


def addresses() -> None:
    """This namespace has nothing yet, not even loopback."""
    subprocess.run([program("ip"), "link", "set", "lo", "up"], check=True)
    for address in (ROOT, *EDGE):
        subprocess.run([program("ip"), "address", "add", f"{address}/32", "dev", "lo"], check=True)


async def main(home: Path) -> dict[str, list[dict[str, object]]]:
    """Findings of zonemaster from NOTICE up, by zone."""
    listen = {"LISTEN": f"[127.0.0.1@PORT, {', '.join(f'{address}@53' for address in EDGE)}]"}
    async with signed_edge(home, listen, servers={"ns1": [EDGE[0]], "ns2": [EDGE[1]]}) as edge:
        await edge.primary.cover("west")
        root = FakeRoot("nsd", "nsd.conf", home / "root", {"DS": "\n".join(edge.ds)})
        hints = home / "hints"
        hints.write_text(f". 3600 IN NS a.root-servers.net.\na.root-servers.net. 3600 IN A {ROOT}\n")
        async with serving(root):
            found = {}
            for zone in edge.zones:
                tests = [word for test in TESTS for word in ("--test", test)]
                text = await output_of(
                    "zonemaster-cli", "--hints", hints, "--no-ipv6", "--level", "NOTICE", "--json", "--no-progress",
                    *tests, zone,
                )  # fmt: skip
                found[zone] = json.loads(text)
            return found


if __name__ == "__main__":
    addresses()
    sys.stdout.write(json.dumps(asyncio.run(main(Path(sys.argv[1])))))
