"""The real servers that the engines are tested with, on loopback, each process started and ended by its id."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from getpass import getuser
from pathlib import Path
from typing import Any

from tests import programs
from tests.ports import free_port

PATIENCE_S = 30.0


class Process:
    """One server: started, killed, started again on the same ports and files."""

    def __init__(self, command: Sequence[str], log: Path, port: int) -> None:
        self._command = list(command)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def server(self) -> int:
        """The process id of the server itself, where it is behind another."""
        return self.pid

    @property
    def running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> None:
        """As a power cut would end it."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def suspend(self) -> None:
        """It holds its connections, and does nothing any more."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def said(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None


def wait_for(holds: Callable[[], bool], what: Callable[[], str], patience_s: float = PATIENCE_S) -> None:
    """Ask a server again and again whether it is ready."""
    end = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


class Servers:
    """The processes that serve one engine together."""

    scheme = ""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.processes: list[Process] = []

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{each.port}" for each in self.processes)

    def url(self, name: str, options: str = "") -> str:
        return f"{self.scheme}://{self.hosts}/{name}{options}"

    def start(self) -> None:
        """All that do not run, until they answer."""
        for each in self.processes:
            if not each.running:
                each.start()
        wait_for(self.ready, lambda: "\n".join(each.said() for each in self.processes))

    def ready(self) -> bool:
        return all(each.listens() for each in self.processes)

    def leader(self) -> Process:
        """The one whose loss hurts most."""
        return self.processes[0]

    def kill(self) -> None:
        for each in self.processes:
            each.kill()

    def stop(self) -> None:
        for each in self.processes:
            each.stop()


def some_ports(n: int) -> list[int]:
    found: set[int] = set()
    while len(found) < n:
        found.add(free_port())
    return sorted(found)


class NatsServers(Servers):
    """A cluster of three with JetStream; `secret` is user and password."""

    scheme = "nats"

    def __init__(
        self, home: Path, n: int = 3, options: str = "", jetstream: bool = True, max_file: str = "4GB"
    ) -> None:
        super().__init__(home)
        program = programs.program("nats-server")
        clients, routes, monitors = some_ports(n), some_ports(n), some_ports(n)
        self.monitors = monitors
        for number in range(n):
            others = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
            store = f'jetstream {{ store_dir: "{home}/nats{number}", max_mem: 256MB, max_file: {max_file} }}'
            cluster = f"cluster {{ name: tests, listen: 127.0.0.1:{routes[number]}, routes: [{others}] }}"
            file = home / f"nats{number}.conf"
            file.write_text(
                f"server_name: n{number}\nlisten: 127.0.0.1:{clients[number]}\nhttp: 127.0.0.1:{monitors[number]}\n"
                f"{store if jetstream else ''}\n{cluster if n > 1 else ''}\n{options}\n"
            )
            log = home / f"nats{number}.log"
            self.processes.append(Process([program, "-c", str(file)], log, clients[number]))

    def ready(self) -> bool:
        """All are in the cluster, and it has a leader that they follow."""
        return all(_says(f"http://127.0.0.1:{port}/healthz").get("status") == "ok" for port in self.monitors)

    def leader(self) -> Process:
        """The leader of the cluster's own records, and so of some streams."""
        names = [_says(f"http://127.0.0.1:{port}/jsz").get("meta_cluster", {}).get("leader") for port in self.monitors]
        return self.processes[int(str(next(name for name in names if name)).removeprefix("n"))]


class EtcdServers(Servers):
    """A cluster of n."""

    scheme = "etcd"

    def __init__(
        self, home: Path, n: int = 3, guarded: bool = False, options: Sequence[str] = (), encrypted: bool = False
    ) -> None:
        super().__init__(home)
        self._guarded = guarded
        self._encrypted = encrypted
        scheme = "https" if encrypted else "http"
        program = programs.program("etcd")
        clients, peers = some_ports(n), some_ports(n)
        cluster = ",".join(f"e{number}=http://127.0.0.1:{port}" for number, port in enumerate(peers))
        for number in range(n):
            client, peer = f"{scheme}://127.0.0.1:{clients[number]}", f"http://127.0.0.1:{peers[number]}"
            command = [
                program, "--name", f"e{number}", "--data-dir", f"{home}/etcd{number}", "--log-outputs", "stderr",
                "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
                "--initial-advertise-peer-urls", peer, "--initial-cluster", cluster, "--initial-cluster-state", "new",
                *options,
            ]  # fmt: skip
            self.processes.append(Process(command, home / f"etcd{number}.log", clients[number]))

    def start(self) -> None:
        super().start()
        if self._guarded:
            base = f"http://127.0.0.1:{self.processes[0].port}/v3/auth"
            for user, password in (("root", "secret"), ("kindred", "right")):
                _says(f"{base}/user/add", json.dumps({"name": user, "password": password}).encode())
                _says(f"{base}/user/grant", json.dumps({"user": user, "role": "root"}).encode())
            _says(f"{base}/enable", b"{}")
            self._guarded = False

    def ready(self) -> bool:
        if self._encrypted:
            return super().ready()
        return all(_says(f"http://127.0.0.1:{each.port}/health").get("health") == "true" for each in self.processes)

    def leader(self) -> Process:
        """The one that the others follow."""
        for each in self.processes:
            status = _says(f"http://127.0.0.1:{each.port}/v3/maintenance/status", b"{}")
            if status.get("leader") == status.get("header", {}).get("member_id", ""):
                return each
        raise AssertionError("there is no leader")


class RedisServer(Servers):
    """One server that logs every write before it replies."""

    scheme = "redis"

    def __init__(self, home: Path, options: str = "", encrypted: bool = False) -> None:
        super().__init__(home)
        program = programs.program("redis-server")
        (port,) = some_ports(1)
        file = home / "redis.conf"
        file.write_text(options)
        command = [
            program, str(file), "--bind", "127.0.0.1", "--port", "0" if encrypted else str(port),
            "--dir", str(home), "--appendonly", "yes",
            "--appendfsync", "always", "--save", "", *(["--tls-port", str(port)] if encrypted else []),
        ]  # fmt: skip
        self.processes.append(Process(command, home / "redis.log", port))


class MqttBroker(Servers):
    """Mosquitto that keeps retained messages, and has no limit that would drop them."""

    scheme = "mqtt"

    def __init__(self, home: Path, passwords: dict[str, str] | None = None, options: str = "", queued: int = 0) -> None:
        super().__init__(home)
        program = programs.program("mosquitto")
        (port,) = some_ports(1)
        guard = "allow_anonymous true"
        if passwords is not None:
            words = home / "passwords"
            words.write_text("".join(f"{user}:{password}\n" for user, password in passwords.items()))
            words.chmod(0o600)
            subprocess.run([programs.program("mosquitto_passwd"), "-U", str(words)], check=True)
            guard = f"allow_anonymous false\npassword_file {words}"
        file = home / "mosquitto.conf"
        file.write_text(
            f"listener {port} 127.0.0.1\n{guard}\npersistence true\npersistence_location {home}/\n"
            f"autosave_interval 3\nmax_queued_messages {queued}\nset_tcp_nodelay true\nuser {getuser()}\n"
            f"{options}\n"
        )
        self.processes.append(Process([program, "-c", str(file)], home / "mosquitto.log", port))


def _says(url: str, body: bytes | None = None) -> dict[str, Any]:
    """A server's JSON, or nothing."""
    try:
        with urllib.request.urlopen(url, body, timeout=1) as reply:  # noqa: S310
            found: dict[str, Any] = json.load(reply)
            return found
    except (OSError, ValueError):
        return {}


@asynccontextmanager
async def answering(reply: Callable[[bytes], bytes]) -> AsyncIterator[int]:
    """Something that listens and replies; its port."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = b""
        while True:
            if said := reply(received):
                writer.write(said)
            received = await reader.read(1 << 16)
            if not received:
                break
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
