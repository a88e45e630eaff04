"""NSD, Knot and BIND as authoritative servers of given zones, each a process of its own on a free port of loopback."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from registry.zones.zone import Zone
from tests.peers.zonefile import zone_lines
from tests.ports import free_port
from tests.programs import program

STARTS_WITHIN_S = 20.0
_PROBE = b"\x12\x34\0\0\0\1\0\0\0\0\0\0\0\0\2\0\1"  # NS of the root


@dataclass(frozen=True, slots=True)
class Peer:
    """A running server."""

    name: str
    port: int
    process: subprocess.Popen[bytes]


def write_zones(home: Path, zones: Iterable[Zone]) -> dict[str, Path]:
    """A master file per zone, by apex without the final dot."""
    home.mkdir(parents=True, exist_ok=True)
    files = {}
    for zone in zones:
        apex = zone.apex.removesuffix(".")
        files[apex] = home / f"{apex}.zone"
        with files[apex].open("w", encoding="ascii") as file:
            file.writelines(f"{line}\n" for line in zone_lines(zone))
    return files


@contextmanager
def serving(name: str, home: Path, files: Mapping[str, Path]) -> Iterator[Peer]:
    """The server `name` (nsd, knotd or named) of these master files, once it answers."""
    home.mkdir(parents=True, exist_ok=True)
    path, port = program(name), free_port()
    command = [path, *CONFIGURATIONS[name](home.absolute(), port, files)]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=home)
    try:
        _await_answer(process, port, home / "log")
        yield Peer(name, port, process)
    finally:
        process.terminate()
        process.wait(STARTS_WITHIN_S)


def _await_answer(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until any answer comes: each try is one question, and waits for it a little."""
    with socket.socket(type=socket.SOCK_DGRAM) as asker:
        asker.settimeout(0.1)
        asker.connect(("127.0.0.1", port))
        for _ in range(int(STARTS_WITHIN_S / 0.1)):
            if process.poll() is not None:
                break
            try:
                asker.send(_PROBE)
                if asker.recv(512)[:2] == _PROBE[:2]:
                    return
            except TimeoutError:
                continue
            except ConnectionRefusedError:  # nothing listens yet, and says so at once
                process_wait(process, 0.05)
    raise AssertionError(f"{process.args} does not answer: {log.read_text()[-2000:]}")


def process_wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for the end of the process, for so long at most."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _nsd(home: Path, port: int, files: Mapping[str, Path]) -> list[str]:
    zones = "".join(f'zone:\n  name: "{apex}."\n  zonefile: "{path.absolute()}"\n' for apex, path in files.items())
    (home / "nsd.conf").write_text(
        f"""server:
  ip-address: 127.0.0.1@{port}
  server-count: 1
  username: ""
  chroot: ""
  zonesdir: "{home}"
  pidfile: "{home}/nsd.pid"
  xfrdfile: "{home}/xfrd.state"
  xfrdir: "{home}"
  zonelistfile: "{home}/zone.list"
  logfile: "{home}/nsd.log"
  database: ""
  hide-version: yes
  hide-identity: yes
  minimal-responses: yes
  refuse-any: no
  ipv4-edns-size: 1232
  rrl-ratelimit: 1000000
  rrl-whitelist-ratelimit: 1000000
remote-control:
  control-enable: no
{zones}"""
    )
    return ["-d", "-c", str(home / "nsd.conf")]


def _knot(home: Path, port: int, files: Mapping[str, Path]) -> list[str]:
    zones = "".join(f'  - domain: "{apex}."\n    file: "{path.absolute()}"\n' for apex, path in files.items())
    (home / "knot.conf").write_text(
        f"""server:
  listen: 127.0.0.1@{port}
  rundir: "{home}"
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
  udp-max-payload: 1232
  identity: ""
  version: ""
  nsid: ""
database:
  storage: "{home}/db"
template:
  - id: default
    storage: "{home}"
    zonefile-load: whole
    journal-content: none
zone:
{zones}"""
    )
    return ["-c", str(home / "knot.conf")]


def _bind(home: Path, port: int, files: Mapping[str, Path]) -> list[str]:
    zones = "".join(f'zone "{apex}" {{type primary; file "{path.absolute()}";}};\n' for apex, path in files.items())
    (home / "named.conf").write_text(
        f"""options {{
  directory "{home}"; pid-file "{home}/named.pid"; session-keyfile "{home}/session.key";
  listen-on port {port} {{127.0.0.1;}}; listen-on-v6 {{none;}};
  recursion no; notify no; minimal-responses yes; minimal-any yes; version none; hostname none; server-id none;
  max-udp-size 1232; edns-udp-size 1232; answer-cookie no; empty-zones-enable no; dnssec-validation no;
  check-names primary warn;
}};
controls {{}};
{zones}"""
    )
    return ["-g", "-n", "1", "-c", str(home / "named.conf")]


CONFIGURATIONS: dict[str, Callable[[Path, int, Mapping[str, Path]], list[str]]] = {
    "nsd": _nsd,
    "knotd": _knot,
    "named": _bind,
}
