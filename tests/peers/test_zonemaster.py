"""zonemaster finds nothing wrong with the signed edge, in a network namespace with a root of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.peers.namespace import TESTS
from tests.peers.peers import output_of
from tests.peers.primary import ORIGIN
from tests.programs import missing, program

ROOT = Path(__file__).parent.parent.parent
ACCEPTED = {
    "NAMESERVER_IP_WITHOUT_REVERSE",  # nobody in the namespace keeps the addresses' names
    "EXPIRE_MINIMUM_VALUE_LOWER",  # a day, and configurable: registry.soa.expire
}


async def test_zonemaster_is_content(tmp_path: Path) -> None:
    for name in ("zonemaster-cli", "knotd", "nsd", "ip", "unshare"):
        program(name)
    if "fine" not in await output_of("unshare", "-n", "echo", "fine", ok=False):
        missing("no network namespace can be had (unshare -n): run it as root, or in a container with CAP_SYS_ADMIN")
    output = await output_of(
        "unshare", "-n", "env", "-C", ROOT, sys.executable, "-m", "tests.peers.namespace", tmp_path
    )
    found = json.loads(output.splitlines()[-1])
    assert set(found) == {ORIGIN, f"crash.vehicles.{ORIGIN}", f"drives.{ORIGIN}"}
    for zone, results in found.items():
        wrong = [each for each in results if each["level"] in ("WARNING", "ERROR", "CRITICAL")]
        assert {each["tag"] for each in wrong} <= ACCEPTED, (zone, wrong)
        assert {each["testcase"].rstrip("0123456789").lower() for each in results} <= set(TESTS)
