"""The command line against a running federation: what it prints, what it exits with, what it says of bad input."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import orjson
import pytest

from regional.client import NetworkClient
from regional.connections import Connections
from regional.packets.packet import Packet
from tests.acceptance.commands import kindred_command
from tests.acceptance.federated import ROOT, Federated, situation, write_config, write_slice
from tests.acceptance.truth import Truth, places
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

SITUATIONS = ROOT / "examples" / "situations"


async def test_ask(kindred: Federated, truths: dict[str, Truth]) -> None:
    file, config = SITUATIONS / "crash.json", kindred.config.file
    question = {"domain": "crash.vehicles", "situation": situation("crash"), "k": 6}
    ended = await kindred_command("ask", "crash.vehicles", "--situation", file, "-k", 6, "-c", config, "--json")
    assert (ended.code, ended.err) == (0, "")
    assert places(ended.json) == truths["crash.vehicles"].places(question)
    ended = await kindred_command(
        "ask", "crash.vehicles", "--situation", file, "-k", 6, "-c", config, "--require-exact"
    )
    assert ended.code == 0
    for words in ("the neighbours are complete", "crash-0", "belted+airbag", "95% interval", "observational"):
        assert words.lower() in ended.out.lower()


async def test_ask_for_a_picture_and_for_each_network(kindred: Federated, tmp_path: Path) -> None:
    file, config = SITUATIONS / "icu.json", kindred.config.file
    asked = ("ask", "icu.medicine", "--situation", file, "-k", 200, "-c", config)
    ended = await kindred_command(*asked, "--corroborate", "--plot", tmp_path / "answer.svg")
    assert ended.code == 0
    for words in ("balance of catheter and no-catheter", "within networks, catheter less no-catheter"):
        assert words in ended.out
    assert (tmp_path / "answer.svg").read_text().startswith("<?xml")
    ended = await kindred_command(*asked, "--plot", tmp_path / "answer.gif")
    assert ended.code == 2
    assert ".svg or .png" in ended.err


async def test_withdraw_with_a_receipt(kindred: Federated) -> None:
    """From the network that tests deposit with; the answer for who is not there names him not held."""
    [held] = [each for each in kindred.config.networks.values() if each.name == "trial"]
    schema = kindred.config.schemas()["trial.vehicles"]
    leaving = Packet(
        "trial.vehicles", schema.space[:8], "trial", b"leaving", 1, 1.0, 1.0,
        np.zeros(schema.dimension, dtype=np.float32), schema.actions[0], {}
    )  # fmt: skip
    async with Connections() as connections:
        await NetworkClient(connections).deposit(held.endpoint, [leaving], 10.0)
    ended = await kindred_command("withdraw", "trial", "leaving", "-c", kindred.config.file, "--json")
    assert ended.code == 0
    assert len(ended.json["receipt"]) == 64
    again = await kindred_command("withdraw", "trial", "leaving", "-c", kindred.config.file)
    assert again.code == 1
    assert "holds no packet" in again.err
    unknown = await kindred_command("withdraw", "nowhere", "leaving", "-c", kindred.config.file)
    assert "nowhere" in unknown.err


@pytest.mark.parametrize(("name", "value"), [("recall", 0.9), ("budget", 2)])
async def test_ask_by_mode(kindred: Federated, name: str, value: float) -> None:
    arguments = ["ask", "crash.vehicles", "--situation", SITUATIONS / "crash.json", f"--{name}", value]
    ended = await kindred_command(*arguments, "-c", kindred.config.file, "--json")
    assert ended.code == 0
    assert ended.json["mode"] == {name: value}
    asked = [each for each in ended.json["networks"] if each["disposition"] == "answered"]
    assert 1 <= len(asked) <= (2 if name == "budget" else 5)


async def test_ask_with_features_on_the_line(kindred: Federated, truths: dict[str, Truth]) -> None:
    """A feature on the line takes precedence over the file's."""
    arguments = [
        "ask",
        "drives.machinery",
        "temperature=27",
        "capacity=3",
        "-k",
        "4",
        "--per",
        "all",
        "--action",
        "WDC",
    ]
    ended = await kindred_command(*arguments, "--outcome", "life", "-c", kindred.config.file, "--json")
    asked = {"temperature": 27, "capacity": 3}
    question = {"domain": "drives.machinery", "situation": asked, "k": 4, "per": "all", "actions": ["WDC"]}
    assert places(ended.json) == truths["drives.machinery"].places(question)
    over = ["ask", "crash.vehicles", "--situation", SITUATIONS / "crash.json", "age=80", "frontal=false", "-k", "3"]
    ended = await kindred_command(*over, "-c", kindred.config.file, "--json")
    question = {"domain": "crash.vehicles", "situation": {**situation("crash"), "age": 80, "frontal": False}, "k": 3}
    assert places(ended.json) == truths["crash.vehicles"].places(question)


async def test_not_complete_under_require_exact(kindred: Federated) -> None:
    arguments = ["ask", "strikes.vehicles", "--situation", SITUATIONS / "strikes.json", "-c", kindred.config.file]
    await kindred.processes["skies"].stop()
    try:
        ended = await kindred_command(*arguments, "--require-exact", "--json")
        lenient = await kindred_command(*arguments)
    finally:
        await kindred.processes["skies"].start()
        await kindred.deposit("strikes-00")  # waits until it is published again
    assert ended.code == 3
    assert not ended.json["certificate"]["neighbours_complete"]
    assert "not proved complete" in ended.err
    assert lenient.code == 0
    assert "not complete" in lenient.out
    assert "missing strikes-0" in lenient.out


@pytest.mark.parametrize("command", ["ask", "resolve"])
@pytest.mark.parametrize(
    ("domain", "says"), [("atlantis", "atlantis"), ("nobody.machinery", "nobody covers nobody.machinery")]
)
async def test_nobody_covers_the_domain(kindred: Federated, command: str, domain: str, says: str) -> None:
    ended = await kindred_command(command, domain, "temperature=27", "capacity=3", "-c", kindred.config.file, "--json")
    assert ended.code == 4
    assert ended.json
    assert says in ended.err or command == "resolve"


async def test_resolve_networks_and_check(kindred: Federated) -> None:
    config = kindred.config.file
    walk = ["resolve", "severity.vehicles", "--situation", SITUATIONS / "crash.json", "-c", config]
    ended = await kindred_command(*walk, "--json")
    assert (ended.code, ended.json["apex"]) == (0, "severity.vehicles.kindred.internal.")
    ended = await kindred_command(*walk)
    assert (ended.code, "severity-40-54" in ended.out, "SVCB" in ended.out) == (0, True, True)
    ended = await kindred_command("networks", "crash.vehicles", "-c", config, "--json")
    assert (ended.code, len(ended.json["networks"])) == (0, 5)
    ended = await kindred_command("networks", "-c", config)
    assert (ended.code, "icu-arf" in ended.out, "drives-03" in ended.out) == (0, True, True)
    assert (await kindred_command("networks", "nobody.machinery", "-c", config)).code == 4
    ended = await kindred_command("check", "-c", config, "--json")
    assert (ended.code, ended.json["networks"]) == (0, len(kindred.config.networks))
    ended = await kindred_command("check", "-c", config)
    assert (ended.code, "icu.medicine: 4 networks" in ended.out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ask", "crash.vehicles", "age=old"], "age"),
        (["ask", "crash.vehicles", "age"], "FEATURE=VALUE"),
        (["ask", "crash.vehicles", "shoe_size=43"], "shoe_size"),
        (["ask", "drives.machinery", "temperature=nan"], "temperature"),
        (["ask", "drives.machinery", "temperature=27", "-k", "0"], "k: "),
        (["ask", "drives.machinery", "temperature=27", "--action", "Sony"], "Sony"),
        (["ask", "drives.machinery", "--situation", "no-such.json"], "no-such.json"),
        (["ask"], "domain"),
        (["ask", "drives.machinery", "-k", "many"], "many"),
        (["deposit"], "--all"),
        (["deposit", "trial", "--all"], "--all"),
        (["deposit", "atlantis"], "atlantis"),
        (["deposit", "trial"], "data"),
        (["deposit", "trial", "no-such.csv"], "no-such.csv"),
        (["network", "atlantis"], "atlantis"),
        (["network", "--process", "atlantis"], "atlantis"),
        (["network"], "required"),
        (["ask", "drives.machinery", "-k", "3", "temperature=27", "--depth=3"], "--depth=3"),
        (["networks", "drives.machinery", "--json", "temperature=27"], "temperature=27"),
        (["dance"], "dance"),
        ([], "COMMAND"),
    ],
)
async def test_usage(kindred: Federated, arguments: list[str], says: str) -> None:
    config = ["-c", kindred.config.file] if arguments and arguments[0] != "dance" else []
    ended = await kindred_command(*arguments, *config)
    assert ended.code == 2
    assert says in ended.err


async def test_a_problem_as_json(kindred: Federated) -> None:
    ended = await kindred_command("ask", "crash.vehicles", "age=400", "--json", "-c", kindred.config.file)
    assert ended.code == 2
    assert ended.json["type"] == "urn:kindred:problem:situation"


GOOD_YAML = """\
version: 1
registry: {dns: @dns, http: @http}
domains:
  crash.vehicles: {schema: $ROOT/examples/domains/crash.yaml}
networks:
  one: {domain: crash.vehicles, listen: @one, data: $HOME/gone.csv}
gateway: {listen: @gateway}
"""


@pytest.mark.parametrize(
    ("old", "new", "place", "right"),
    [
        ("version: 1", "version: 2", ":1: version", "1"),
        ("version: 1", "version: [1", ":", ""),
        ("registry: {dns", "registry: {dnss", ":2: registry.dnss", "dns"),
        ("domain: crash.vehicles", "domain: crash.cars", ":6: networks.one.domain", "crash.vehicles"),
        ("crash.yaml}", "crash.yml}", "crash.yml", ""),
        ("gateway: {", "gateway: {deadline: 5, ", ":7: gateway.deadline", "500ms"),
    ],
)
async def test_a_broken_federation_yaml(tmp_path: Path, old: str, new: str, place: str, right: str) -> None:
    path = write_config(tmp_path, GOOD_YAML)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    ended = await kindred_command("check", "-c", path)
    assert ended.code == 2
    assert place in ended.err
    assert right in ended.err
    assert (str(path) in ended.err) or "crash.yml" in ended.err


async def test_no_federation_yaml(tmp_path: Path) -> None:
    ended = await kindred_command("check", "-c", tmp_path / "federation.yaml", "--json")
    assert (ended.code, ended.json["type"]) == (2, "urn:kindred:problem:config")
    assert str(tmp_path / "federation.yaml") in ended.err


async def test_check_names_data_that_is_missing(tmp_path: Path) -> None:
    ended = await kindred_command("check", "-c", write_config(tmp_path, GOOD_YAML))
    assert ended.code == 1
    assert "gone.csv" in ended.err


async def test_nobody_there(tmp_path: Path) -> None:
    """No registry, no network: said in a sentence, exit 1."""
    config = write_config(tmp_path, GOOD_YAML)
    rows = write_slice("nass_cds_crash", tmp_path, 5000)
    for arguments in (
        ["ask", "crash.vehicles", "--situation", SITUATIONS / "crash.json"],
        ["resolve", "crash.vehicles", "--situation", SITUATIONS / "crash.json"],
        ["networks"],
        ["deposit", "one", rows],
    ):
        ended = await kindred_command(*arguments, "-c", config, "--json")
        assert ended.code == 1
        assert "127.0.0.1" in ended.err
        assert ended.json["status"] >= 500


@pytest.mark.parametrize("role", ["gateway", "registry", "network"])
async def test_a_port_in_use(tmp_path: Path, role: str) -> None:
    config = write_config(tmp_path, GOOD_YAML)
    text = config.read_text()
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    taken = server.sockets[0].getsockname()[1]
    line = {"gateway": "gateway:", "registry": "registry:", "network": "one:"}[role]
    lines = [
        each.replace(each.rpartition("127.0.0.1:")[2].split('"')[0], str(taken)) if line in each else each
        for each in text.splitlines(keepends=True)
    ]
    config.write_text("".join(lines))
    (tmp_path / ".kindred" / "keys").mkdir(parents=True)
    from gateway.cli.up import make_keys
    from gateway.configuration.config import FederationConfig

    make_keys(FederationConfig.from_yaml(config))
    arguments = {"gateway": ["gateway"], "registry": ["registry"], "network": ["network", "one"]}[role]
    ended = await kindred_command(*arguments, "-c", config)
    server.close()
    assert ended.code == 2
    assert f"127.0.0.1:{taken}" in ended.err


async def test_a_dns_port_in_use(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", free_port())
    taken = server.sockets[0].getsockname()[1]
    config = write_config(
        tmp_path,
        GOOD_YAML.replace("@dns", f'"127.0.0.1:{taken}"').replace(
            "  one: {", '  one: {key: "ed25519:' + "A" * 43 + '=", '
        ),
    )
    ended = await kindred_command("registry", "-c", config)
    server.close()
    assert ended.code == 2, ended.err
    assert str(taken) in ended.err


HEADER = (
    "dvcat,weight,dead,airbag,seatbelt,frontal,sex,ageOFocc,yearacc,yearVeh,abcat,occRole,deploy,injSeverity,caseid,"
    "site_psu,died,action"
)
ROW = "25-39,25.0,alive,none,belted,1,f,{age},1997,1990.0,unavail,driver,0,3.0,2:3:1,2,0,belted+none"


def rows(*ages: object) -> list[bytes]:
    return [HEADER.encode(), *(ROW.format(age=age).encode() for age in ages)]


BAD_FILES: dict[str, tuple[list[bytes], str, int | None, str | None, int]] = {
    # name: lines, what is said, the line and the column named, how many rows are good all the same
    "out of range": (rows(20, 400, 22), "400", 3, "ageOFocc", 2),
    "no number": (rows(20, "old", 22), "old", 3, "ageOFocc", 2),
    "too few fields": ([*rows(20), b"25-39,25.0,alive", *rows(22)[1:]], "3 fields", 3, "airbag", 2),
    "too many fields": ([*rows(20), rows(21)[1] + b",more", *rows(22)[1:]], "19 fields", 3, None, 2),
    "a quote that does not close": ([*rows(20, 22), b'25-39,"25.0'], "broken line", 4, None, 2),
    "wrong encoding": ([*rows(20), rows(21)[1].replace(b",f,", b",\xe9,"), *rows(22)[1:]], "UTF-8", 3, "sex", 2),
    "another action": ([*rows(20), rows(21)[1].replace(b"belted+", b"pray+"), *rows(22)[1:]], "pray", 3, "action", 2),
    "a negative weight": ([*rows(20), rows(21)[1].replace(b"25.0", b"-1"), *rows(22)[1:]], "weight", 3, "weight", 2),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
async def test_a_bad_row_is_named_and_with_atomic_none_is_taken(kindred: Federated, tmp_path: Path, name: str) -> None:
    lines, says, line, column, good = BAD_FILES[name]
    path = tmp_path / "rows.csv"
    path.write_bytes(b"\n".join(lines) + b"\n")
    arguments = ["deposit", "trial", path, "-c", kindred.config.file]
    endpoint = kindred.config.networks["trial"].endpoint

    async def held() -> int:
        async with kindred.session.get(f"{endpoint}/v1/coverage") as response:
            return int(orjson.loads(await response.read())["packets"])

    before = await held()
    ended = await kindred_command(*arguments, "--atomic")
    assert ended.code == 2
    assert f"rows.csv:{line}" in ended.err
    assert says in ended.err
    assert column is None or repr(column) in ended.err
    assert await held() == before
    ended = await kindred_command(*arguments, "--json")
    assert ended.code == 1
    (result,) = ended.json["networks"]
    assert result["rows"] == result["accepted"] + result["stale"] == good
    (rejected,) = result["rejected"]
    assert (rejected["line"], rejected["path"]) == (line, column)
    assert says in rejected["reason"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"dvcat,weight\n1,2\n", "lacks columns"),
        (HEADER.replace("ageOFocc", "age").encode() + b"\n", "'ageOFocc'"),
        (HEADER.encode().replace(b"sex,", b"sex,sex,") + b"\n", "twice"),
        (HEADER.encode("utf-16"), "UTF-8"),
        (b"", "empty"),
    ],
)
async def test_a_file_that_is_no_such_table(kindred: Federated, tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    for atomic in ([], ["--atomic"]):
        ended = await kindred_command("deposit", "trial", path, *atomic, "--json", "-c", kindred.config.file)
        assert ended.code == 2
        assert says in ended.err
        assert "rows.csv" in ended.err
        assert ended.json["status"] == 400


async def test_a_broken_gzip(kindred: Federated, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(b"\x1f\x8b\x08\0\0\0\0\0\0\0garbage")
    ended = await kindred_command("deposit", "trial", path, "-c", kindred.config.file)
    assert (ended.code, "gzip" in ended.err) == (2, True)


async def test_deposit_counts_what_collapsed_and_what_is_stale(kindred: Federated, tmp_path: Path) -> None:
    """Rows by line number do not collapse; the same file again is stale; what is good is soon covered."""
    path = tmp_path / "rows.csv"
    path.write_bytes(b"\n".join(rows(*range(30, 60))))
    config = ["-c", kindred.config.file]
    ended = await kindred_command("deposit", "trial-data", path, "--atomic", "--json", *config)
    assert ended.code == 0
    (result,) = ended.json["networks"]
    assert result == {
        "network": "trial-data",
        "read": 30,
        "rows": 30,
        "accepted": 30,
        "stale": 0,
        "collapsed": 0,
        "rejected": None,
        "covered": True,
    }
    ended = await kindred_command("deposit", "trial-data", path, *config)
    assert (ended.code, "30 stale" in ended.out) == (0, True)
    ended = await kindred_command("deposit", "rice-langan", "--json", *config)
    (result,) = ended.json["networks"]
    assert (ended.code, result["accepted"], result["stale"]) == (0, 0, result["rows"])
    assert result["collapsed"] > 0


async def test_help_names_every_command() -> None:
    ended = await kindred_command("--help")
    assert ended.code == 0
    for name in ("up", "ask", "resolve", "deposit", "networks", "check", "registry", "network", "gateway"):
        assert name in ended.out
