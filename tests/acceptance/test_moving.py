"""Networks that move and split while they are asked and deposited with: nothing lost or twice, no false promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.cli.main import parser
from gateway.cli.steer import Steering
from gateway.federation import Federation
from registry.clock import ManualClock, SystemClock
from registry.errors import Conflict
from tests.acceptance.federated import Federated, federated, until, write_slice
from tests.acceptance.load import Load
from tests.acceptance.truth import Truth
from tests.engines.servers import NatsServers, RedisServer, Servers

DOMAIN = "crash.vehicles"
FEDERATION = """\
version: 1
registry: {dns: @dns, http: @http, coalesce: 20ms, ttl: {apex: 1s, cell: 1s, endpoint: 1s, negative: 1s}}
domains:
  crash.vehicles: {schema: $ROOT/examples/domains/crash.yaml}
networks:
  # What is to move.
  near:
    domain: crash.vehicles   # of the roads
    listen: @near
    data: $HOME/rows.csv
    where: {frontal: 0}
  far: {domain: crash.vehicles, listen: @far, data: $HOME/rows.csv, where: {frontal: 1}}
gateway: {listen: @gateway}
"""


class Ahead(SystemClock):
    """The machine's clock, some time ahead."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> float:
        return super().now() + self.ahead_s


async def kindred_command(kindred: Federated, *arguments: str) -> int:
    options = parser(arguments[0]).parse_args([*arguments, "--config", kindred.config.file, "--json"])
    code: int = await options.run(options)
    return code


def text(kindred: Federated) -> str:
    return Path(kindred.config.file).read_text()


def rewrite(kindred: Federated, content: str) -> None:
    Path(kindred.config.file).write_text(content)


def fresh(kindred: Federated) -> Truth:
    return Truth(kindred.config, DOMAIN)


async def test_there_and_back_under_load(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Embedded, NATS, Redis, embedded: whoever asks and deposits meanwhile notices nothing."""
    write_slice("nass_cds_crash", tmp_path, 40).rename(tmp_path / "rows.csv")
    servers: list[Servers] = [NatsServers(tmp_path, 1), RedisServer(tmp_path)]
    try:
        for each in servers:
            each.start()
        async with federated(tmp_path, FEDERATION) as kindred:
            await kindred.deposit()
            load = Load(kindred, fresh(kindred), "near")
            before = text(kindred)
            for engine in (servers[0].url("near"), servers[1].url("near"), "embedded"):
                async with load:
                    assert await kindred_command(kindred, "move", "near", "--engine", engine) == 0
                    load.died()
                await load.settled()
                line = f"\n    engine: {engine}\n    domain: crash.vehicles   # of the roads\n"
                assert line in text(kindred)
                with pytest.raises(Conflict, match="already"):
                    await kindred_command(kindred, "move", "near", "--engine", engine)
                if engine != "embedded":  # whoever moved it ended before the file said so
                    rewrite(kindred, before)
                    assert await kindred_command(kindred, "move", "near", "--engine", engine) == 0
                    assert line in text(kindred)
            assert text(kindred).replace("    engine: embedded\n", "") == before
            assert load.complete >= 0.9 * load.asked  # a server that is not heard for seconds costs certainty
            assert load.deposited > 10
            role = kindred.processes["near"]
            await role.stop()
            await role.start()  # by the configuration as it was read: embedded

            async def covered() -> bool:
                return bool((await kindred.registry_says("/v1/networks/near"))["published"])

            await until(covered)
            await load.settled()
    finally:
        for each in servers:
            each.stop()
    capfd.readouterr()


async def split(kindred: Federated, clock: Ahead, load: Load) -> dict[str, Any]:
    """Split `near` into two; the time for which the registry's older versions count passes at once."""
    async with Steering(kindred.config, "near", SystemClock()) as steering:
        await steering.command("split", into=2)

        async def left() -> bool:
            load.died()
            state = await steering.state()
            return state["step"] == "leaving" and state["epoch"] > 0

        await until(left)
        clock.ahead_s += 1000

        async def parted() -> bool:
            load.died()
            return (await steering.state())["step"] == "parted"

        await until(parted)
        return dict(await steering.state())


async def test_split_under_load(tmp_path: Path) -> None:
    """Two shares of one network: asked as two, counted as one; who knows only the old owner is told, and asks anew."""
    write_slice("nass_cds_crash", tmp_path, 40).rename(tmp_path / "rows.csv")
    clock = Ahead()
    async with federated(tmp_path, FEDERATION, clock) as kindred:
        await kindred.deposit()
        load = Load(kindred, fresh(kindred), "near")
        await load.settled()
        stopped = ManualClock(SystemClock().now())
        async with Federation.open(kindred.config, stopped) as behind:
            old = await behind.ask(**load._question())
            assert {each.name for each in old.networks} <= {"near", "far"}
            async with load:
                state = await split(kindred, clock, load)
            # Where a node has just gone from one share to the other, an answer may say that it is not sure of the rest.
            assert {each["disposition"] for each in load.missing} <= {"truncated"}
            assert load.complete >= 0.9 * load.asked
            assert load.deposited > 10
            assert [each["name"] for each in state["shares"]] == ["near", "near-s2"]
            await load.settled()
            answers = [await behind.ask(**load._question()) for _ in range(6)]
            assert any({"near-s2"} <= {each.name for each in answer.networks} for answer in answers)
            assert {network for answer in answers for network in answer.neighbours.networks()} <= {"near", "far"}
            await load.settled(behind)
        heard = await kindred.ask(**{**load._question(), "corroborate": True, "k": 200})
        told = [pair["networks"] for each in heard["synthesis"].values() for pair in each["heterogeneity"] or ()]
        assert told
        assert all({each["network"] for each in pair} <= {"near", "far"} for pair in told)
        role = kindred.processes["near"]
        await role.stop()
        await role.start()

        async def covered() -> bool:
            return (await kindred.registry_says("/v1/networks/near-s2"))["coverage"] is not None

        await until(covered)
        deposited = load.deposited
        async with load:

            async def more() -> bool:
                load.died()
                return load.deposited > deposited + 10

            await until(more)
        await load.settled()
