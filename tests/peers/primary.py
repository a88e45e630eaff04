"""A registry in a process of its own, as an operator runs it, for tests of the servers around it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path

import aiohttp
import numpy as np
import yaml

from gateway.cli.up import make_keys
from gateway.configuration.config import FederationConfig
from registry.geometry.region import Region
from registry.http.client import RegistryClient
from registry.keys import SigningKey
from registry.likeness.schema import Schema
from registry.publishing.coverage import Coverage
from tests.ports import free_port

ORIGIN = "kindred.internal."
NETWORKS = {"north": "crash.vehicles", "south": "crash.vehicles", "west": "drives"}
STARTS_WITHIN_S = 60.0

_FEATURE = {"kind": "number", "label": "a size", "unit": "m", "scale": 1.0, "range": [-100.0, 100.0]}
_SCHEMA = {
    "title": "Crashes",
    "study": "observational",
    "release": "packets",
    "min_cohort": 1,
    "bandwidth_floor": 0.5,
    "actions": {"no": "it is no", "yes": "it is yes"},
    "features": {"width": _FEATURE, "height": _FEATURE},
    "outcomes": {"death": {"kind": "binary", "label": "death", "horizon": "30d"}},
}


class RunningPrimary:
    """The registry's file, keys and process. secondaries: ports that are told of changes."""

    def __init__(self, home: Path, host: str = "127.0.0.1", **registry: object) -> None:
        """registry: what else its section says."""
        self.home = home
        self.host = host
        self.port = free_port()
        self.http = free_port()
        self.networks: dict[str, str] = NETWORKS
        self.pattern: dict[str, object] = {}  # what the file says of the networks, where they are not listed one by one
        self.domains = sorted(set(NETWORKS.values()))
        self.secondaries: dict[str, int] = {}
        self.process: asyncio.subprocess.Process | None = None
        self._registry = registry
        self._serials: dict[str, int] = {}

    @property
    def config(self) -> FederationConfig:
        return FederationConfig.from_yaml(self.home / "federation.yaml")

    @cached_property
    def schema(self) -> Schema:
        return Schema.from_yaml(self.home / "schema.yaml")

    @property
    def secret(self) -> str:
        return (self.home / "keys" / "transfer.tsig").read_text().strip()

    @property
    def log(self) -> str:
        return (self.home / "registry.log").read_text()

    def write(self) -> None:
        """The file as it is now, with keys where there are none yet."""
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "schema.yaml").write_text(json.dumps(_SCHEMA, indent=1))  # which is YAML
        document = {
            "version": 1,
            "data_dir": ".",
            "registry": {
                "dns": f"{self.host}:{self.port}",
                "http": f"{self.host}:{self.http}",
                "origin": ORIGIN,
                "coalesce": "10ms",
                "keys": {"transfer": {"secret": "file:keys/transfer.tsig"}},
                "secondaries": {
                    name: {"notify": f"{self.host}:{port}", "key": "transfer"}
                    for name, port in self.secondaries.items()
                },
                **self._registry,
            },
            "domains": {name: {"schema": "schema.yaml"} for name in self.domains},
            "networks": self.pattern
            or {
                name: {"domain": domain, "listen": f"{self.host}:9"}
                for name, domain in self.networks.items()
                if domain in self.domains
            },
            "gateway": {"listen": f"{self.host}:8"},
        }
        # All of the networks stand for one process, which nothing starts.
        for network in document["networks"].values():  # type: ignore[attr-defined]
            network["process"] = "none"
        (self.home / "federation.yaml").write_text(yaml.safe_dump(document))
        make_keys(self.config)

    async def start(self, within_s: float = STARTS_WITHIN_S) -> None:
        """Until it says that it is ready."""
        self.write()
        command = [sys.executable, "-m", "gateway.cli", "registry", "--config", self.home / "federation.yaml"]
        with (self.home / "registry.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )
        assert self.process.stdout is not None
        async with asyncio.timeout(within_s):
            line = await self.process.stdout.readline()
        assert line == b"ready\n", self.log

    async def stop(self, number: int = signal.SIGTERM) -> None:
        """End it: in order, or as a crash would."""
        process, self.process = self.process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            await process.wait()

    async def cover(self, network: str, amount: int = 5) -> int:
        """Publish a new coverage of the network; returns the zone's serial that its acknowledgement names."""
        serial = self._serials[network] = self._serials.get(network, 0) + 1
        async with aiohttp.ClientSession() as session:
            client = RegistryClient(session, f"http://{self.host}:{self.http}")
            document = self.coverage(network, serial, amount).document(
                SigningKey.from_file(self.home / "keys" / network)
            )
            return (await client.put_coverage(network, document)).published

    async def warnings(self) -> dict[str, str]:
        """What it says is not well, of what does not keep it from answering."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{self.host}:{self.http}/readyz") as response,
        ):
            assert response.status == 200
            return (await response.json()).get("warnings", {})

    def coverage(self, network: str, serial: int, amount: int, place: float = 0.0) -> Coverage:
        """`amount` regions side by side, from `place` on; their ids carry the serial."""
        schema = self.schema
        return Coverage(
            domain=self.networks[network],
            network=network,
            space=schema.space.hex(),
            schema=schema.digest.hex(),
            serial=serial,
            issued=_now(),
            lease_s=3600.0,
            packets=6 * amount,
            uncovered=0,
            regions=tuple(_region(f"r{i}-{serial}", place + i, schema.dimension) for i in range(amount)),
        )


def _now() -> float:
    import time

    return time.time()


def _region(name: str, place: float, dimension: int) -> Region:
    centre = np.full(dimension, place)
    return Region(
        id=name,
        counts={"no": 3, "yes": 3},
        centre=centre,
        radius=1.0,
        lo=centre - 0.5,
        hi=centre + 0.5,
        var=np.full(dimension, 0.05),
        spread=0.01,
    )


@asynccontextmanager
async def running_primary(home: Path, **registry: object) -> AsyncIterator[RunningPrimary]:
    """Not started yet; ended with the context."""
    primary = RunningPrimary(home, **registry)
    try:
        yield primary
    finally:
        await primary.stop()
