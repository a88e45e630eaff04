"""What is acknowledged is on disk: a network killed under deposits loses nothing, and each group has its sync."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from benchmarks.live import configuration
from benchmarks.report import Figure, Report
from gateway.cli.up import Processes
from gateway.configuration.config import FederationConfig, NetworkConfig
from regional.client import NetworkClient, NetworkFailure
from regional.connections import Connections
from regional.packets.packet import Packet, node_text
from registry.likeness.schema import Schema

SEED = 20261122
NETWORK = "crash-82"
KILLS = 20
DEPOSITORS = 8
NODES = 50  # of each depositor
MOST = 20  # packets in one deposit
READERS = 16
UNDER_STRACE = 40  # deposits of each depositor
PATIENCE_S = 10.0
TRACED = "trace=fdatasync,fsync,msync,pwrite64,pwritev,writev,write,read,recvfrom,recvmsg,sendto,sendmsg"
O_DSYNC = 0o10000


def run(report: Report) -> None:
    """Figure 2."""
    asyncio.run(_run(report))


async def _run(report: Report) -> None:
    path = configuration("durability", _only_one)
    config = FederationConfig.from_yaml(path)
    network = config.networks[NETWORK]
    async with Processes(config, path) as processes, Connections() as connections, aiohttp.ClientSession() as session:
        client = NetworkClient(connections)
        depositors = Depositors(network, config.schemas()[network.domain], client, session)
        wrong = 0
        for _ in range(KILLS):
            depositing = asyncio.create_task(depositors.until_it_fails())
            await asyncio.sleep(depositors.random.uniform(0.2, 0.7))
            await processes.kill(NETWORK)
            await depositing
            await processes.start_network(NETWORK)
            wrong += await depositors.read_back()
        name = f"acknowledged packets lost in {KILLS} kill -9, of {depositors.packets:,}"
        report.add(Figure(2, "2", name, wrong, "packets", bar="= 0", holds=wrong == 0))
        report.add(Figure(2, "2", "deposits acknowledged under fire", depositors.deposits, "deposits"))
        for at_once in (1, DEPOSITORS):
            await _trace(report, processes.pids[NETWORK], path.parent / f"strace.{at_once}", depositors, at_once)


def _only_one(document: dict[str, Any]) -> None:
    document["networks"] = {NETWORK: document["networks"][NETWORK]}


class Depositors:
    """Concurrent depositors, each of nodes of its own, and what they were told is kept. Packets follow from seq."""

    def __init__(
        self, network: NetworkConfig, schema: Schema, client: NetworkClient, session: aiohttp.ClientSession
    ) -> None:
        self._network = network
        self._schema = schema
        self._session = session
        self._client = client
        self._acknowledged: dict[bytes, int] = {}
        self._sent: dict[bytes, int] = {}
        self._seq = 0
        self.random = np.random.default_rng(SEED)
        self.deposits = 0
        self.packets = 0

    async def until_it_fails(self) -> None:
        """Deposit until the network is gone."""
        await asyncio.gather(*(self._deposit_on(depositor, None) for depositor in range(DEPOSITORS)))

    async def some(self, depositors: int, deposits: int) -> None:
        """Each of the depositors makes this many deposits of one packet."""
        await asyncio.gather(*(self._deposit_on(depositor, deposits) for depositor in range(depositors)))

    async def read_back(self) -> int:
        """How many acknowledged packets are gone, are older than acknowledged, or are not what was sent."""
        nodes = iter(list(self._acknowledged))
        wrong = 0

        async def read() -> None:
            nonlocal wrong
            for node in nodes:
                url = f"{self._network.endpoint}/v1/packets/{node_text(node)}"
                async with self._session.get(url, headers={"Accept": "application/cbor"}) as response:
                    body = await response.read()
                held = Packet.from_cbor(body) if response.status == 200 else None
                good = held is not None and self._acknowledged[node] <= held.seq <= self._sent[node]
                if held is None or not good or body != self._packet(node, held.seq).to_cbor():
                    wrong += 1

        await asyncio.gather(*(read() for _ in range(READERS)))
        return wrong

    async def _deposit_on(self, depositor: int, deposits: int | None) -> None:
        while deposits is None or deposits > 0:
            size = 1 if deposits is not None else int(self.random.integers(1, MOST + 1))
            chosen = self.random.choice(NODES, size, replace=False).tolist()
            batch = []
            for number in chosen:
                self._seq += 1
                node = b"%d/%d" % (depositor, number)
                self._sent[node] = self._seq
                batch.append(self._packet(node, self._seq))
            try:
                report = await self._client.deposit(self._network.endpoint, batch, PATIENCE_S)
            except NetworkFailure:
                if deposits is None:
                    return
                raise
            assert report.accepted == size, report
            self._acknowledged.update((packet.node, packet.seq) for packet in batch)
            self.deposits += 1
            self.packets += size
            if deposits is not None:
                deposits -= 1

    def _packet(self, node: bytes, seq: int) -> Packet:
        random = np.random.default_rng([seq, *node])
        return Packet(
            domain=self._network.domain,
            space8=self._schema.space[:8],
            network=self._network.name,
            node=node,
            seq=seq,
            t0=float(seq),
            time=float(seq),
            fingerprint=random.normal(size=self._schema.dimension).astype(np.float32),
            action=self._schema.actions[seq % len(self._schema.actions)],
        )


# ---- one sync per acknowledged group -------------------------------------------------------------------------


async def _trace(report: Report, pid: int, path: Path, depositors: Depositors, at_once: int) -> None:
    before = depositors.deposits
    async with _strace(pid, path):
        await depositors.some(at_once, UNDER_STRACE)
    deposits = depositors.deposits - before
    seen = Trace.of(path, synchronous_files(pid))
    who = f"strace, {at_once} depositor{'s' * (at_once > 1)}"
    name = f"{who}: acknowledged without a sync begun after arrival, of {deposits}"
    report.add(Figure(2, "2", name, seen.unsynced, "deposits", bar="= 0", holds=seen.unsynced == 0))
    name = f"{who}: acknowledgements seen"
    report.add(
        Figure(2, "2", name, seen.acknowledged, "deposits", bar=f"= {deposits}", holds=seen.acknowledged == deposits)
    )
    name = f"{who}: syncs"
    ratio = seen.syncs / deposits
    report.add(Figure(2, "2", name, seen.syncs, "syncs", "deposits", ratio, "<= deposits", seen.syncs <= deposits))
    ratio = seen.syncs / max(1, seen.commits)
    report.add(Figure(2, "2", f"{who}: commits", seen.commits, "commits", "syncs per commit", ratio, "1", ratio == 1))


@asynccontextmanager
async def _strace(pid: int, path: Path) -> AsyncIterator[None]:
    """The system calls of a process and all its threads, into a file."""
    command = ["strace", "-f", "-y", "-s", "32", "-e", TRACED, "-e", "signal=none", "-o", str(path), "-p", str(pid)]
    tracer = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert tracer.stderr is not None
    said = await asyncio.wait_for(tracer.stderr.readline(), PATIENCE_S)
    assert b"attached" in said, said
    try:
        yield
    finally:
        tracer.terminate()
        await tracer.wait()


def synchronous_files(pid: int) -> frozenset[int]:
    """Descriptors of a process for which each write is a sync of its own (O_DSYNC)."""
    found = set()
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        flags = re.search(r"flags:\s+(\d+)", entry.read_text())
        link = Path(f"/proc/{pid}/fd/{entry.name}").readlink()
        if flags and int(flags[1], 8) & O_DSYNC and link.is_absolute():
            found.add(int(entry.name))
    return frozenset(found)


@dataclass(slots=True)
class Trace:
    """Reads strace's lines in order. An acknowledgement counts as synced when its deposit had been read before the
    first page of a commit was written, a sync followed that write and succeeded, and the synchronous write of the
    page that makes the commit current came after it: all before the acknowledgement was sent.
    """

    synchronous: frozenset[int]
    syncs: int = 0
    commits: int = 0
    acknowledged: int = 0
    unsynced: int = 0
    _line: int = 0
    _pending: dict[str, tuple[str, int]] = field(default_factory=dict)
    _arrived: dict[str, int] = field(default_factory=dict)
    _first_page: int | None = None  # line of the first page written of the commit under way
    _synced: bool = False  # whether a sync began after it, and has succeeded
    _committed: int = -1  # first page of the last commit that was synced and made current

    @classmethod
    def of(cls, path: Path, synchronous: frozenset[int]) -> Trace:
        """What strace wrote to a file."""
        trace = cls(synchronous)
        for line in path.read_text().splitlines():
            trace.take(line)
        return trace

    def take(self, line: str) -> None:
        """One line: a call, the beginning of one, or its end."""
        self._line += 1
        thread, _, rest = line.partition(" ")
        rest = rest.strip()
        if rest.endswith("<unfinished ...>"):
            self._pending[thread] = rest.removesuffix("<unfinished ...>"), self._line
            self._begin(rest)
            return
        resumed = re.match(r"<\.\.\. \w+ resumed>", rest)
        begun = self._line
        if resumed:
            first, begun = self._pending.pop(thread, ("", -1))
            rest = first + rest[resumed.end() :]
        else:
            self._begin(rest)
        self._end(rest, begun)

    def _begin(self, call: str) -> None:
        sent = re.match(r'(?:send(?:to|msg)|writev?)\((\d+)<.*?"HTTP/1\.1 200', call)
        if sent and sent[1] in self._arrived:
            self.acknowledged += 1
            self.unsynced += not self._committed > self._arrived[sent[1]]

    def _end(self, call: str, begun: int) -> None:
        result = re.search(r"= (-?\d+)[^=]*$", call)
        parts = re.match(r"(\w+)\((\d+)<", call)
        if not parts or not result or int(result[1]) < 0:
            return
        name, descriptor = parts[1], parts[2]
        if name in ("fdatasync", "fsync", "msync"):
            self.syncs += 1
            self._synced = self._first_page is not None and begun > self._first_page
        elif name in ("pwrite64", "pwritev", "writev") and f"{descriptor}</" in call:  # a file, not a socket
            if int(descriptor) not in self.synchronous:
                self._first_page = begun if self._first_page is None else self._first_page
                return
            self.commits += 1
            if self._synced and self._first_page is not None:
                self._committed = self._first_page
            self._first_page, self._synced = None, False
        elif name in ("recvfrom", "recvmsg", "read") and int(result[1]) > 0:
            self._arrived[descriptor] = self._line
