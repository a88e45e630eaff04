"""`kindred move` and `kindred split` as they are typed: what they do, and what they say where they do nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.cli.steer import Steering
from registry.clock import SystemClock
from tests.acceptance.commands import Ended, kindred_command
from tests.acceptance.federated import Federated, federated, until, write_slice
from tests.acceptance.load import Load
from tests.acceptance.truth import Truth
from tests.engines.servers import NatsServers
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

FEDERATION = """\
version: 1
registry: {dns: @dns, http: @http, coalesce: 20ms, ttl: {apex: 1s, cell: 1s, endpoint: 1s, negative: 1s}}
domains:
  crash.vehicles: {schema: $ROOT/examples/domains/crash.yaml}
  icu.medicine: {schema: $ROOT/examples/domains/icu.yaml}
networks:
  near: {domain: crash.vehicles, process: roads, listen: @roads, data: $HOME/rows.csv, where: {frontal: 0}}
  far: {domain: crash.vehicles, process: roads, listen: @roads, data: $HOME/rows.csv, where: {frontal: 1}}
  read: {domain: crash.vehicles, process: roads, listen: @roads, engine: NATS/read, serve: engine}
  site-{sex}: {domain: crash.vehicles, process: roads, listen: @roads, each: {sex: [f, m]}}
  clinic: {domain: icu.medicine, process: roads, listen: @roads}
gateway: {listen: @gateway}
"""


class Ahead(SystemClock):
    """The machine's clock, some time ahead."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> float:
        return super().now() + self.ahead_s


@dataclass
class Steered:
    """A federation whose networks are steered. nats: where else packets can be."""

    kindred: Federated
    clock: Ahead
    nats: str

    async def command(self, *arguments: object) -> Ended:
        return await kindred_command(*arguments, "--config", self.kindred.config.file)

    @property
    def text(self) -> str:
        """Of federation.yaml."""
        return Path(self.kindred.config.file).read_text()

    def at(self, listen: str) -> Path:
        """The same federation.yaml, in which the networks are elsewhere."""
        other = Path(self.kindred.config.file).with_name("elsewhere.yaml")
        other.write_text(self.text.replace(str(self.kindred.config.networks["near"].listen), listen))
        return other

    async def states(self) -> dict[str, Any]:
        """What every network is doing, and what federation.yaml says."""
        found: dict[str, Any] = {"file": self.text}
        for name in self.kindred.config.networks:
            async with Steering(self.kindred.config, name, SystemClock()) as steering:
                found[name] = await steering.state()
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def steered(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Steered]:
    home = tmp_path_factory.mktemp("steered")
    write_slice("nass_cds_crash", home, 100).rename(home / "rows.csv")
    servers = NatsServers(home, 1)
    servers.start()
    clock = Ahead()
    nats = servers.url("").rstrip("/")
    try:
        async with federated(home, FEDERATION.replace("NATS", nats), clock) as kindred:
            await kindred.deposit()
            yield Steered(kindred, clock, nats)
    finally:
        servers.stop()


NOBODY = f"nats://127.0.0.1:{free_port()}/near"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("split nowhere", 2, "no network is called 'nowhere'"),
        ("move nowhere --engine embedded", 2, "no network is called 'nowhere'"),
        ("split near --into 1", 2, "2 to 64 shares, not 1"),
        ("split near --into 65", 2, "2 to 64 shares, not 65"),
        ("split near --into two", 2, "invalid int value: 'two'"),
        ("split near-s2", 2, "no network 'near-s2' is served here"),
        ("split clinic", 1, "releases aggregates"),
        ("split read", 1, "gateways read the engine of read themselves"),
        ("split site-f", 1, "do not lie apart"),
        ("move near", 2, "required: --engine"),
        ("move read --engine embedded", 1, "gateways read the engine of read themselves"),
        ("move near --engine embedded", 1, "at embedded already"),
        ("move near --engine carrier-pigeon://coop", 2, "carrier-pigeon"),
        ("move near --engine nats://127.0.0.1/a.b", 2, "letters, digits and hyphens"),
        (f"move near --engine {NOBODY}", 1, f"{NOBODY} cannot be reached"),
        ("move near --engine NATS/read", 2, "keeps the packets of 'read', not of 'near'"),
        ("move near --engine NATS/near --password file:none", 2, "none"),
        ("move near --engine dht://127.0.0.1:1/near", 2, "a network in a DHT is neither moved nor split"),
        ("move site-f --engine NATS/site", 2, "give it an entry of its own first"),
    ],
)
async def test_what_is_refused_changes_nothing(steered: Steered, arguments: str, code: int, says: str) -> None:
    before = await steered.states()
    ended = await steered.command(*arguments.replace("NATS", steered.nats).split())
    assert (ended.code, ended.out) == (code, "")
    assert says in ended.err
    assert await steered.states() == before


async def test_nobody_answers_there(steered: Steered) -> None:
    """The network's process is not up."""
    config = steered.at(f"127.0.0.1:{free_port()}")
    for what in (["split", "near"], ["move", "near", "--engine", "embedded"]):
        ended = await kindred_command(*what, "--config", config)
        assert ended.code == 1
        assert "near does not answer at 127.0.0.1" in ended.err


async def test_split_and_move_a_share(steered: Steered) -> None:
    kindred, before = steered.kindred, await steered.states()
    count = before["near"]["shares"][0]["packets"]
    splitting = asyncio.create_task(steered.command("split", "near", "--into", 2))

    async def left() -> bool:
        async with Steering(kindred.config, "near", SystemClock()) as steering:
            state = await steering.state()
        return splitting.done() or (state["step"] == "leaving" and state["epoch"] > 0)

    await until(left)
    steered.clock.ahead_s += 1000
    ended = await splitting
    assert ended.code == 0
    told = ended.out.splitlines()
    assert [line.partition(":")[0] for line in told] == ["near", "near-s2"]
    assert all(line.endswith("packets at embedded") for line in told)
    steps = [line.removeprefix("near: ") for line in ended.err.splitlines()]
    assert steps[-1] == "each share keeps its own"
    again = await steered.command("split", "near", "--into", 2, "--json")
    assert (again.code, again.err) == (0, "")
    assert sum(share["packets"] for share in again.json["shares"]) == count
    for refused, code, says in (
        (["split", "near", "--into", 3], 1, "near is split into 2 already"),
        (["split", "near-s2"], 1, "near-s2 is a share of near; a share is not split again"),
        (["split", "near-s3"], 2, "no network 'near-s3' is served here"),
        (["move", "near-s2", "--engine", NOBODY], 1, "cannot be reached"),
    ):
        now = await steered.states()
        ended = await steered.command(*refused)
        assert (ended.code, ended.out) == (code, "")
        assert says in ended.err
        assert await steered.states() == now
    for to in (f"{steered.nats}/near-s2", "embedded"):
        ended = await steered.command("move", "near-s2", "--engine", to)
        assert (ended.code, ended.err.count("kindred:")) == (0, 0)
        assert ended.out.endswith(f"packets are at {to}\n")
    assert steered.text == before["file"]
    await Load(kindred, Truth(kindred.config, "crash.vehicles"), "near").settled()
