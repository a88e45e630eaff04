"""The demonstration: a federation of 127 networks on this machine, real data of four fields, real questions.

    make demo            (or: python examples/multi_region_demo.py)

It starts everything afresh under build/demo on free ports, loads the data, asks one question in each domain, kills a
network under a question, restarts it, overwrites a farm's season, compares 200 questions with scikit-learn's brute
force over all packets pooled, or over all atoms where a domain releases aggregates, and ends by asking the same
questions of the same packets on every engine whose server is on this machine. It exits non-zero on any difference.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from servers import free_port, missing, running
from sklearn.neighbors import NearestNeighbors
from ways import AT_ONCE, Pool, apart, deposit, federation_yaml, go, questions, ways

from gateway.answer import Answer
from gateway.cli.deposit import deposit_all
from gateway.cli.render import show_answer, show_certificate, show_walk
from gateway.cli.up import Processes
from gateway.configuration.config import FederationConfig
from gateway.federation import Federation
from gateway.planning.candidates import Candidate
from gateway.question import Question
from regional.client import NetworkClient
from regional.connections import Connections
from regional.files.loading import load
from regional.files.table import Row, read_rows
from regional.packets.packet import Packet, identity_digest
from regional.releasing.atom import step_of
from regional.releasing.page import Home, read_page
from registry.errors import KindredError
from registry.geometry.region import squared_distances
from registry.likeness.fingerprint import encode, to_base64
from registry.likeness.schema import Schema

ROOT = Path(__file__).parent.parent
HOME = ROOT / "build" / "demo"
KILLED = "crash-82"
QUESTIONS = 200
WAYS_PACKETS, WAYS_QUESTIONS = 4_000, 60
SEED = 20261122
NEW_SEASON: dict[tuple[str, bytes], Packet] = {}

# Domain, its situation under examples/situations, neighbours per action, and the question in words.
ASKED = (
    ("icu.medicine", "icu.json", 100, "A woman of 67 in septic multi-organ failure: what came of others, by catheter?"),
    (
        "smoking.medicine",
        "smoking.json",
        50,
        "A woman of 46, a pack a day for 27 years: what becomes of her weight if she quits?",
    ),
    ("rice.agriculture", "rice.json", 30, "Half a hectare rented for a share of the harvest: which variety?"),
    ("drives.machinery", "drives.json", 300, "A 3 TB drive at 27 degrees: how long do they live, by brand?"),
    ("crash.vehicles", "crash.json", 300, "A frontal impact at 40 to 54 km/h: by belt and airbag (networks by place)"),
    ("severity.vehicles", "crash.json", 300, "The same, asked of networks that are cut by severity"),
    ("strikes.vehicles", "strikes.json", 100, "A jet meets geese at dusk: is the flight affected, by phase?"),
)

console = Console(width=132)


async def main() -> int:
    started = time.monotonic()
    config_path = own_configuration()
    config = FederationConfig.from_yaml(config_path)
    title(f"Starting a registry, {len(config.networks)} networks in {len(config.processes())} processes and a gateway")
    async with Processes(config, config_path) as processes:
        console.print(f"ready after {time.monotonic() - started:.1f} s")
        title("Depositing the real data: every packet is on disk when it is acknowledged")
        chosen = [(network, network.data) for network in config.networks.values() if network.data is not None]
        results = await deposit_all(config, chosen)
        rows, collapsed = sum(each.rows for each in results), sum(each.collapsed for each in results)
        console.print(f"{rows:,} rows; {collapsed:,} of them collapsed onto a node that had a packet already (seasons)")
        async with Federation.open(config) as federation:
            await one_question_per_domain(federation)
            await several_networks_then_one_killed(federation, processes)
            await a_new_season(config, federation)
            differences = await compare_with_scikit_learn(config, federation)
    differences += await one_answer_n_ways()
    console.print(f"done in {time.monotonic() - started:.0f} s; differences: {differences}")
    return 1 if differences else 0


def own_configuration() -> Path:
    """A copy of federation.yaml with free ports and an empty data directory of its own."""
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    text = (ROOT / "federation.yaml").read_text()
    for address in sorted(set(re.findall(r"127\.0\.0\.1:\d+(?=\s)", text))):
        text = text.replace(address, f"127.0.0.1:{free_port()}")
    text = text.replace("examples/", f"{ROOT}/examples/").replace("data_dir: .kindred", "data_dir: .")
    path = HOME / "federation.yaml"
    path.write_text(text)
    return path


def title(text: str) -> None:
    console.print()
    console.print(Rule(f"[bold]{text}[/bold]", align="left"))


async def one_question_per_domain(federation: Federation) -> None:
    for domain, file, k, words in ASKED:
        title(words)
        question = ask_of(domain, file, k)
        show_walk(await federation.resolve(question), console)
        show_answer(await federation.ask(question), console)


def ask_of(domain: str, file: str, k: int, **more: object) -> Question:
    situation = json.loads((ROOT / "examples" / "situations" / file).read_text())
    return Question.from_document({"domain": domain, "situation": situation, "k": k, **more})


async def several_networks_then_one_killed(federation: Federation, processes: Processes) -> None:
    question = ask_of("crash.vehicles", "crash.json", 50)
    title("Neighbours in several networks, asked in parallel")
    whole = await federation.ask(question)
    holders = sum(each.contributed > 0 for each in whole.networks)
    console.print(f"{whole.found} neighbours lie in {holders} networks; {KILLED} holds {contributed(whole)} of them")
    show_certificate(whole.certificate, console)
    title(f"The same with {KILLED} killed: on time, and the certificate says what is missing")
    await processes.kill(KILLED)
    began = time.monotonic()
    partial = await federation.ask(question)
    console.print(f"answered after {(time.monotonic() - began) * 1000:.0f} ms of {federation.deadline_s * 1000:.0f} ms")
    show_certificate(partial.certificate, console)
    missing = {each.network for each in partial.certificate.missing}
    if partial.certificate.neighbours_complete or missing != {KILLED}:
        raise KindredError(f"the certificate should have named {KILLED} as missing, and it alone")
    await processes.start_network(KILLED)
    again = await federation.ask(question)
    console.print(f"started again: {contributed(again)} of the neighbours are back from its disk")
    show_certificate(again.certificate, console)


def contributed(answer: Answer) -> int:
    return sum(each.contributed for each in answer.networks if each.name == KILLED)


async def a_new_season(config: FederationConfig, federation: Federation) -> None:
    title("A farm's new season overwrites its packet")
    domain, name = "rice.agriculture", "rice-ciwangi"
    network, schema = config.networks[name], config.schemas()[domain]
    rows = list(read_rows(network.data, schema))
    old = load(rows, schema, domain, name, network.where).packets[-1]
    situation = json.loads((ROOT / "examples" / "situations" / "rice.json").read_text())
    season = 182 * 86_400
    new = replace(
        old,
        seq=old.seq + season * 1000,
        t0=old.t0 + season,
        time=old.time + season,
        fingerprint=encode(schema, situation),
        outcomes={"yield": 4321.0},
    )
    NEW_SEASON[name, new.node] = new
    question = ask_of(domain, "rice.json", 30)
    async with Connections() as connections:
        client = NetworkClient(connections)
        before = (await client.coverage(network.endpoint, 5.0)).packets
        report = await client.deposit(network.endpoint, [new], 5.0)
        stale = await client.deposit(network.endpoint, [old], 5.0)
        while (state := await client.coverage(network.endpoint, 5.0)).pending:
            await asyncio.sleep(0.05)
    answer = await federation.ask(question)
    nearest = [each for each in answer.neighbours if each.network == name and each.packet.node == old.node]
    console.print(
        f"farm {old.node.decode()} of {name}: season of {day(old.t0)} overwritten by {day(new.t0)} "
        f"(accepted {report.accepted}); depositing the old one again: stale {stale.stale}; "
        f"packets before {before}, after {state.packets}"
    )
    shown = [(day(each.packet.t0), each.packet.outcomes["yield"], each.distance2**0.5) for each in nearest]
    console.print(f"among the neighbours now (season, kg/ha, distance): {shown}")
    if state.packets != before or len(nearest) != 1 or nearest[0].packet.seq != new.seq:
        raise KindredError("the new season should have taken the place of the old one")


def day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


async def compare_with_scikit_learn(config: FederationConfig, federation: Federation) -> int:
    """How many of QUESTIONS answers differ from brute force over all packets, or atoms, pooled."""
    title(f"{QUESTIONS} questions against scikit-learn's brute force over all packets pooled (of people: atoms)")
    random = np.random.default_rng(SEED)
    pools = {domain: await pooled(config, domain) for domain in config.domains}
    differences, asked, complete = 0, 0, 0
    began = time.monotonic()
    for number in range(QUESTIONS):
        domain = list(pools)[number % len(pools)]
        packets, points = pools[domain]
        schema = config.schemas()[domain]
        # Somebody like the members, and not one of them: halfway between two.
        query = points[random.choice(len(points), 2, replace=False)].mean(axis=0).astype(np.float32)
        question = Question(
            domain=domain, fingerprint=to_base64(query), space=schema.space.hex(), k=50, deadline_ms=20_000
        )
        answer = await federation.ask(question)
        complete += answer.certificate.neighbours_complete
        asked += sum(each.outcome.ms is not None for each in answer.networks)
        for action in schema.actions:
            rows = np.array([row for row, packet in enumerate(packets) if packet.action == action])
            found = [each for each in answer.neighbours if each.packet.action == action]
            differences += not same(found, query, points[rows], [packets[row] for row in rows], 50)
    ms = (time.monotonic() - began) / QUESTIONS * 1000
    console.print(
        f"{QUESTIONS} questions in {len(pools)} domains: {complete} proved complete, {asked / QUESTIONS:.1f} networks "
        f"asked each, {ms:.1f} ms each, differences: {differences}"
    )
    return differences + (QUESTIONS - complete)


async def one_answer_n_ways() -> int:
    """How many answers differ from brute force, or between ways, on the topologies and engines that are here."""
    title(f"One answer, N ways: the same {WAYS_PACKETS:,} crashes, the same {WAYS_QUESTIONS} questions")
    home = HOME / "ways"
    home.mkdir()
    pool = Pool.read(WAYS_PACKETS)
    asked = questions(pool, WAYS_QUESTIONS, 25)
    async with running(home) as urls:
        chosen = ways(pool, urls)
        path = home / "federation.yaml"
        path.write_text(federation_yaml(chosen, {name: free_port() for name in ("dns", "http", "gateway", "networks")}))
        config = FederationConfig.from_yaml(path)
        async with Processes(config, path), Federation.open(config) as federation:
            await deposit(config, pool, chosen)
            gone = [await go(federation, pool, way, asked) for way in chosen]
    other = apart(gone, asked)
    table = Table("way", "networks", "questions", "other neighbours", "other estimates", "median ms", box=None)
    for each in gone:
        name, parts = each.way.name, str(len(each.way.parts))
        table.add_row(name, parts, str(len(asked)), str(each.differences), str(other[name]), f"{each.ms:.1f}")
    console.print(table)
    console.print(f"-read: the gateway reads the engine itself. {AT_ONCE} questions under way at a time.")
    for scheme, how in missing().items():
        console.print(f"not on this machine: {scheme} ({how})")
    return sum(each.differences for each in gone) + sum(other.values())


@cache
def rows_of(path: Path, schema: Schema) -> list[Row]:
    return list(read_rows(path, schema))


class Shown(NamedTuple):
    """An atom as its network shows it."""

    network: str
    node: bytes
    action: str
    size: int


async def pooled(config: FederationConfig, domain: str) -> tuple[list[Packet] | list[Shown], np.ndarray]:
    """Every network's current packets of a domain, as they should be now, and their fingerprints (n, d) float64.

    Where aggregates are released, the atoms that the networks show, and their centres.
    """
    schema = config.schemas()[domain]
    if schema.release == "aggregates":
        return await shown(config, domain, schema)
    current: dict[tuple[str, bytes], Packet] = {}
    for network in config.networks.values():
        if network.domain == domain and network.data is not None:
            for packet in load(rows_of(network.data, schema), schema, domain, network.name, network.where).packets:
                current[packet.network, packet.node] = packet
    if domain == "rice.agriculture":
        current.update(NEW_SEASON)
    packets = list(current.values())
    return packets, np.array([packet.fingerprint for packet in packets], dtype=np.float64)


async def shown(config: FederationConfig, domain: str, schema: Schema) -> tuple[list[Shown], np.ndarray]:
    """All atoms of a domain, and their centres (n, d)."""
    found: list[Shown] = []
    centres = []
    async with Connections() as connections:
        client = NetworkClient(connections)
        for network in config.networks.values():
            if network.domain != domain:
                continue
            home = Home(domain, network.name, schema.space, schema.dimension, step_of(schema))
            index = json.loads(await client.fetch(network.endpoint, "/v1/atoms", "application/json", 2**20, 10.0))
            for entry in index["pages"]:
                path = f"/v1/atoms/{entry['digest']}"
                body = await client.fetch(network.endpoint, path, "application/cbor", entry["octets"], 10.0)
                page = read_page(body, home, index["min_cohort"])
                centres.append(page.centres)
                for node, action, size in zip(page.nodes, page.actions, page.sizes.tolist(), strict=True):
                    found.append(Shown(network.name, node, action, size))
    return found, np.concatenate(centres)


def same(
    found: list[Candidate], query: np.ndarray, points: np.ndarray, packets: Sequence[Packet | Shown], k: int
) -> bool:
    """Whether the neighbours of one action are those that scikit-learn finds; equals at the K-th place may vary."""
    finder = NearestNeighbors(n_neighbors=min(k, len(points)), algorithm="brute").fit(points)
    distances, rows = finder.kneighbors(query[None].astype(np.float64))
    # The question is halfway between two: how scikit-learn rounds is not to say which of these is the nearer one.
    exact = np.sqrt(squared_distances(points[rows[0]], query.astype(np.float64)))
    names = [identity_digest(packets[row].network, packets[row].node) for row in rows[0]]
    order = sorted(range(len(names)), key=lambda place: (exact[place], names[place]))
    distances, rows = exact[None, order], rows[:, order]
    reached = np.cumsum([getattr(packets[row], "size", 1) for row in rows[0]])
    enough = int(np.searchsorted(reached, k)) + 1
    distances, rows = distances[:, :enough], rows[:, :enough]
    mine = np.array([each.distance2**0.5 for each in found])
    if len(mine) != distances.shape[1] or not np.allclose(mine, distances[0], rtol=0, atol=1e-5):
        return False
    kth = distances[0, -1]
    nearer = [packets[row] for row, distance in zip(rows[0], distances[0], strict=True) if distance < kth - 1e-5]
    return {(each.network, each.packet.node) for each in found} >= {(each.network, each.node) for each in nearer}


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except KindredError as error:
        sys.exit(f"demo: {error.detail}")
