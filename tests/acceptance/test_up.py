"""`kindred up` as a newcomer runs it, in processes of its own: ready, used, ended without a trace."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import orjson
import pytest
import pytest_asyncio

from gateway.cli.up import STOP_TIMEOUT_S
from tests.acceptance.federated import ROOT, until, write_config, write_slice

pytestmark = pytest.mark.asyncio(loop_scope="session")

FEDERATION = """\
version: 1
registry: {dns: @dns, http: @http}
domains:
  crash.vehicles: {schema: $ROOT/examples/domains/crash.yaml}
networks:
  crash-{site}:
    domain: crash.vehicles
    process: roads
    listen: @roads
    data: $HOME/nass_cds_crash.csv
    each: {site: {column: site_psu, parts: 2}}
gateway: {listen: @gateway}
"""


async def start(*arguments: object) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", *map(str, arguments)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run(*arguments: object) -> tuple[int | None, bytes]:
    process = await start(*arguments)
    out, err = await process.communicate()
    assert b"Traceback" not in err
    return process.returncode, out


def children(pid: int) -> list[int]:
    """The processes that this one has started and that still run."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def running(word: str) -> list[str]:
    """Command lines of processes that name this."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found.append((process / "cmdline").read_text())
    return [each for each in found if word in each]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    home = tmp_path_factory.mktemp("up")
    write_slice("nass_cds_crash", home, 100)
    write_config(home, FEDERATION)
    yield home


async def test_up_is_ready_is_used_and_ends_cleanly(home: Path) -> None:
    config = ["--config", home / "federation.yaml"]
    up = await start("up", *config)
    assert up.stdout is not None
    try:
        async with asyncio.timeout(30):
            assert await up.stdout.readline() == b"ready\n"
        started = children(up.pid)
        assert len(started) == 3  # registry, roads, gateway
        code, out = await run("deposit", "--all", "--json", *config)
        assert code == 0
        deposited = orjson.loads(out)["networks"]
        assert sum(each["accepted"] for each in deposited) == 263
        assert all(each["covered"] for each in deposited)
        situation = ROOT / "examples" / "situations" / "crash.json"
        asked, refused = await asyncio.gather(
            run("ask", "crash.vehicles", "--situation", situation, "--require-exact", "--json", *config),
            run("ask", "atlantis", "age=3", *config),
        )
        assert asked[0] == 0
        assert orjson.loads(asked[1])["certificate"]["neighbours_complete"] is True
        assert refused[0] == 4
        up.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_TIMEOUT_S - 0.5):  # after that what has not ended is killed
            out, err = await up.communicate()
        assert (up.returncode, out, err) == (0, b"", b"")
        assert not any(alive(pid) for pid in started)
    finally:
        if up.returncode is None:
            up.kill()
            await up.wait()
    for log in (home / ".kindred" / "log").iterdir():
        assert "Traceback" not in log.read_text()
        assert "unforeseen" not in log.read_text()


async def test_up_ends_with_its_first_process(home: Path) -> None:
    """One of its processes is killed: it ends the others, and says so."""
    up = await start("up", "--config", home / "federation.yaml")
    assert up.stdout is not None
    try:
        async with asyncio.timeout(30):
            assert await up.stdout.readline() == b"ready\n"
        started = children(up.pid)
        os.kill(started[1], signal.SIGKILL)
        async with asyncio.timeout(20):
            _, err = await up.communicate()
        assert up.returncode == 1
        assert b"ended by itself" in err
        assert b"Traceback" not in err

        async def gone() -> bool:
            return not any(alive(pid) for pid in started)

        await until(gone)
    finally:
        if up.returncode is None:
            up.kill()
            await up.wait()


async def test_nothing_outlives_up_itself(home: Path) -> None:
    """`kindred up` is killed and can tell nobody: its processes end all the same."""
    up = await start("up", "--config", home / "federation.yaml")
    assert up.stdout is not None
    try:
        async with asyncio.timeout(30):
            assert await up.stdout.readline() == b"ready\n"
        started = children(up.pid)
    finally:
        up.kill()
        await up.wait()

    async def gone() -> bool:
        return not any(alive(pid) for pid in started)

    try:
        await until(gone)
    finally:
        for pid in started:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


async def test_up_where_a_port_is_in_use(home: Path) -> None:
    """It names the port, and leaves nothing running."""
    text = (home / "federation.yaml").read_text()
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    taken = server.sockets[0].getsockname()[1]
    lines = [f'gateway: {{listen: "127.0.0.1:{taken}"}}' if "gateway:" in each else each for each in text.splitlines()]
    (home / "taken.yaml").write_text("\n".join(lines))
    up = await start("up", "--config", home / "taken.yaml")
    async with asyncio.timeout(40):
        out, err = await up.communicate()
    server.close()
    assert (up.returncode, out) == (1, b"")
    assert f"127.0.0.1:{taken}".encode() in err
    assert b"Traceback" not in err
    assert not running(str(home))
