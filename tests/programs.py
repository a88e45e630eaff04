"""Programs of others that tests start or compare with."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

PACKAGES = {
    "knotd": "knot", "knotc": "knot", "keymgr": "knot-dnsutils", "kzonecheck": "knot-dnssecutils",
    "kdig": "knot-dnsutils", "nsd": "nsd", "nsd-checkzone": "nsd", "named": "bind9", "dnsperf": "dnsperf",
    "named-checkzone": "bind9-utils", "dnssec-verify": "bind9-utils",
    "delv": "bind9-dnsutils", "dig": "bind9-dnsutils", "unbound": "unbound",
    "ldns-verify-zone": "ldnsutils", "zonemaster-cli": "zonemaster-cli", "unshare": "util-linux", "ip": "iproute2",
    "nats-server": "nats-server", "etcd": "etcd-server", "redis-server": "redis-server",
    "mosquitto": "mosquitto", "mosquitto_passwd": "mosquitto", "strace": "strace",
}  # fmt: skip
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin"


def program(name: str) -> str:
    """Its path; where it is missing, the test fails in CI, and is skipped elsewhere, saying what has it."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        missing(f"{name} is missing; on Debian: apt-get install {PACKAGES[name]}")
    return found


def missing(hint: str) -> NoReturn:
    """The test cannot run here; in CI that is a failure."""
    if os.environ.get("CI"):
        pytest.fail(hint)
    pytest.skip(hint)
