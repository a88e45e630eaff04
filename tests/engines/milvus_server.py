"""The real Milvus, standalone: its package unpacked (`make milvus-server`), and started where nobody else reaches it.

Milvus cannot be told on which address to listen, so it has a network namespace of its own (tests/engines/enclosed.py).
"""

from __future__ import annotations

import json
import lzma
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from pymilvus import MilvusClient

from tests import programs
from tests.engines.servers import Process, Servers, some_ports

PACKAGE = Path(__file__).parent.parent.parent / "build" / "milvus"  # where pip has put it
UNPACKED = PACKAGE / "server"
FIRST = "root:Milvus"  # whom a guarded one lets in at first
INSIDE = 19530  # its port, in its namespace
# Milvus looks after its collections every so often; in tests, oftener.
QUICKER = {
    "timeTickInterval: 200": "timeTickInterval: 20",
    "checkInterval: 1000": "checkInterval: 100",
    "distPullInterval: 500": "distPullInterval: 50",
    "level: info": "level: warn",
    "ttl: 30": "ttl: 8",
    "initialBackOff: 0.2": "initialBackOff: 0.02",
    "maxBackoff: 10": "maxBackoff: 0.1",
}


def unpack() -> None:
    """The program and its libraries, from the package."""
    UNPACKED.mkdir(exist_ok=True)
    for packed in sorted((PACKAGE / "milvus" / "data" / "bin").glob("*.lzma")):
        file = UNPACKED / packed.stem
        with lzma.open(packed) as source, file.with_suffix(".part").open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        file.with_suffix(".part").chmod(0o755)
        file.with_suffix(".part").rename(file)


def milvus() -> Path:
    """The program; where it is missing, the test fails in CI, and is skipped elsewhere, saying how to get it."""
    if not (UNPACKED / "milvus").exists():
        programs.missing("the Milvus server is missing; make milvus-server")
    return UNPACKED / "milvus"


class _Enclosed(Process):
    """The server behind its door, in one process group."""

    def __init__(self, home: Path, environment: dict[str, str], port: int) -> None:
        super().__init__([], home / "milvus.log", port)
        self._home = home
        self._environment = environment

    def start(self) -> None:
        with socket.socket() as door, self._log.open("ab") as log:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind(("127.0.0.1", self.port))
            door.listen(128)
            command = [
                programs.program("unshare"), "--net", sys.executable, "-m", "tests.engines.enclosed",
                str(door.fileno()), str(INSIDE), str(milvus()), "run", "standalone",
            ]  # fmt: skip
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[door.fileno()],
                start_new_session=True, env=self._environment,
            )  # fmt: skip

    @property
    def server(self) -> int:
        """The process id of the server itself."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(children[0]) if children else self.pid

    def suspend(self) -> None:
        os.kill(self.server, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.server, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:  # noqa: ARG002
        """Both by their ids; Milvus takes half an hour to stop when it is asked to, so it is killed."""
        if self._process is not None:
            for pid in dict.fromkeys((self.server, self.pid)):
                os.kill(pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class MilvusServer(Servers):
    """One server. settings: what else is replaced in its configuration."""

    scheme = "milvus"

    def __init__(
        self, home: Path, settings: dict[str, str] | None = None, guarded: bool = False, encrypted: bool = False
    ) -> None:
        super().__init__(home)
        milvus()
        self._guarded = guarded
        self._encrypted = encrypted
        template = PACKAGE / "milvus" / "data"
        config = (template / "config.yaml.template").read_text()
        words = {
            "etcd_log_path": home / "etcd.log", "etcd_log_level": "error", "system_log_path": home / "logs",
            "etcd_data_dir": home / "etcd", "local_storage_dir": home / "data", "rocksmq_data_dir": home / "rocksmq",
        }  # fmt: skip
        config = re.sub(r"\{\{ *(\w+)[^:}]*:? *([^}]*?) *\}\}", lambda m: str(words.get(m[1], m[2])), config)
        for old, new in {**QUICKER, **(settings or {})}.items():
            assert old in config, old
            config = config.replace(old, new)
        folder = home / "configs"
        folder.mkdir(exist_ok=True)
        (folder / "milvus.yaml").write_text(config)
        shutil.copy(template / "glog.conf", folder)
        environment = dict(
            os.environ,
            DEPLOY_MODE="STANDALONE",
            METRICS_PORT="9091",
            MILVUSCONF=str(folder),
            MILVUS_RUN_DIR=str(home / "run"),
            LD_LIBRARY_PATH=str(UNPACKED),
            HOME=str(home),
        )
        (port,) = some_ports(1)
        self.processes.append(_Enclosed(home, environment, port))

    def start(self) -> None:
        super().start()
        if self._guarded:
            client = MilvusClient(f"http://{self.hosts}", token=FIRST)
            client.create_user("kindred", "right!")
            client.grant_role("kindred", "admin")
            client.close()
            self._guarded = False

    def ready(self) -> bool:
        """Its proxy answers."""
        if self._encrypted:
            return "Proxy successfully started" in self.processes[0].said()
        try:
            asked = urllib.request.Request(f"http://{self.hosts}/v1/vector/collections")
            asked.add_header("Authorization", f"Bearer {FIRST}")
            with urllib.request.urlopen(asked, timeout=1) as reply:  # noqa: S310
                return json.load(reply).get("code") == 200
        except (OSError, ValueError):
            return False


if __name__ == "__main__":
    unpack()
