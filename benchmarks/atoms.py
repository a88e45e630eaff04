"""What atoms cost: skill lost against packets, persons in no atom, octets per answer.

Skill: of a person left out, the outcome is told by the kernel-weighted mean of the K nearest with the same action among
the others, kept by the networks of federation.yaml; 1 - squared error over that of the action's mean. Once from
packets, once from the atoms which those networks would publish.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.federations import ROOT, running
from benchmarks.report import Figure, Report
from gateway.configuration.config import FederationConfig
from gateway.federation import Federation
from gateway.statistics.kernel import bandwidth, kernel_weights
from regional.connections import Connections
from regional.files.loading import load
from regional.files.table import Row, read_rows
from regional.packets.packet import Packet
from regional.releasing.atom import step_of
from regional.releasing.release import Mark, Person, Rules, State, advance
from registry.likeness.schema import MIN_AGGREGATED, Schema

ISSUE: Final = 6
# Domain, outcome, persons in an atom at least.
SETS: Final = (
    ("icu.medicine", "died_30d", 11),
    ("smoking.medicine", "died", 11),
    ("smoking.medicine", "weight_change", 11),
    ("rice.agriculture", "yield", MIN_AGGREGATED),
    ("crash.vehicles", "died", MIN_AGGREGATED),
    ("severity.vehicles", "died", MIN_AGGREGATED),
    ("strikes.vehicles", "affected", MIN_AGGREGATED),
)
FOLDS: Final = 4
TESTED: Final = 600  # persons of each fold
LATE: Final = 4e9  # every horizon has passed
BATCHES: Final = 40  # in which the second half arrives

Float64s = npt.NDArray[np.float64]
Groups = Mapping[str, Sequence[Packet]]  # by network


class Published:
    """The marks of a network, in memory."""

    def __init__(self) -> None:
        self.marks: set[Mark] = set()

    def known(self, marks: Sequence[Mark]) -> list[bool]:
        return [mark in self.marks for mark in marks]


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """n packets or atoms of one action: centres (n, d), persons in each, and known (n,) of them with this mean."""

    points: Float64s
    sizes: Float64s
    known: Float64s
    means: Float64s


def run(report: Report) -> None:
    """Figure 3 and a part of 6."""
    config = FederationConfig.from_yaml(ROOT / "federation.yaml")
    for domain, outcome, least in SETS:
        _skill(report, config, domain, outcome, least)
    for domain, least in dict.fromkeys((domain, least) for domain, _, least in SETS):
        _left(report, config, domain, least)
    _arrivals(report, config)
    asyncio.run(_octets(report))


def _rows(config: FederationConfig, domain: str) -> tuple[Schema, list[Row]]:
    schema = config.schemas()[domain]
    path = next(each.data for each in config.networks.values() if each.domain == domain and each.data is not None)
    return schema, list(read_rows(path, schema))


def _networks(config: FederationConfig, domain: str, schema: Schema, rows: Sequence[Row]) -> Groups:
    """Each network's packets, all of weight 1."""
    return {
        each.name: [replace(p, weight=1.0) for p in load(rows, schema, domain, each.name, each.where).packets]
        for each in config.networks.values()
        if each.domain == domain
    }


def _rules(schema: Schema, least: int, seed: int) -> Rules:
    return Rules(schema.outcomes, least, step_of(schema), seed.to_bytes(32, "big"))


def _published(packets: Sequence[Packet], rules: Rules, batches: int = 1) -> State:
    """What a network has published once all have come: half of them at first, where in several batches."""
    state, spent = State(), Published()
    order = np.random.default_rng(1).permutation(len(packets))
    ends = [len(order)] if batches == 1 else np.linspace(len(order) // 2, len(order), batches).astype(int).tolist()
    for end in ends:
        persons = [Person.of(packets[row], rules.secret) for row in order[:end].tolist()]
        step = advance(state, persons, spent, rules, LATE)
        if step is not None:
            state = step.state
            spent.marks.update(step.marks)
    return state


def _skill(report: Report, config: FederationConfig, domain: str, outcome: str, least: int) -> None:
    schema, rows = _rows(config, domain)
    group = [row.columns.get("caseid", row.node.decode("latin-1")) for row in rows]  # one crash, one farm
    folds = {each: number % FOLDS for number, each in enumerate(dict.fromkeys(group))}
    draw = np.random.default_rng(6)
    errors: dict[str, float] = {}
    for fold in range(FOLDS):
        train = [row for row, each in zip(rows, group, strict=True) if folds[each] != fold]
        test = [row for row, each in zip(rows, group, strict=True) if folds[each] == fold]
        networks = _networks(config, domain, schema, train)
        asked = load(test, schema, domain, "test", {}).packets
        chosen = [asked[row] for row in draw.permutation(len(asked))[:TESTED].tolist()]
        one = _told_packets([packet for each in networks.values() for packet in each], outcome)
        states = [_published(each, _rules(schema, least, fold)) for each in networks.values()]
        many = _told_atoms(states, outcome, step_of(schema))
        for packet in chosen:
            value, action = packet.outcomes.get(outcome), packet.action or ""
            if not isinstance(value, float) or action not in one or action not in many:
                continue
            point = packet.fingerprint.astype(np.float64)
            base = float((one[action].means * one[action].known).sum() / one[action].known.sum())
            errors["base"] = errors.get("base", 0.0) + (value - base) ** 2
            for k in (50, 100):
                for name, told in (("packets", one[action]), ("atoms", many[action])):
                    guess = _predicted(told, point, k, schema.bandwidth_floor)
                    errors[f"{name} {k}"] = errors.get(f"{name} {k}", 0.0) + (value - guess) ** 2
    for k in (50, 100):
        packets, atoms = (1 - errors[f"{name} {k}"] / errors["base"] for name in ("packets", "atoms"))
        what = f"{domain} {outcome}, K={k}, atoms of {least} or more: skill"
        report.add(Figure(ISSUE, "3", f"{what} from packets", packets, ""))
        report.add(Figure(ISSUE, "3", f"{what} from atoms", atoms, "", "packets", atoms / packets))


def _told_packets(packets: Sequence[Packet], outcome: str) -> dict[str, Told]:
    arms: dict[str, list[Packet]] = {}
    for packet in packets:
        arms.setdefault(packet.action or "", []).append(packet)
    found = {}
    for action, arm in arms.items():
        values = [packet.outcomes.get(outcome) for packet in arm]
        known = np.array([isinstance(value, float) for value in values], dtype=np.float64)
        means = np.array([value if isinstance(value, float) else 0.0 for value in values])
        points = np.array([packet.fingerprint for packet in arm], dtype=np.float64)
        found[action] = Told(points, np.ones(len(arm)), known, means)
    return found


def _told_atoms(states: Sequence[State], outcome: str, step: float) -> dict[str, Told]:
    arms: dict[str, list[tuple[Float64s, int, int, float]]] = {}
    for state in states:
        for each in state.held.values():
            atom, figures = each.atom, each.atom.figures.get(outcome)
            known, mean = (0, 0.0) if figures is None else (figures.n, figures.mean)
            arms.setdefault(atom.action, []).append((atom.place * step, atom.size, known, mean))
    return {
        action: Told(
            np.array([each[0] for each in arm]), *(np.array([each[i] for each in arm], float) for i in (1, 2, 3))
        )
        for action, arm in arms.items()
    }


def _predicted(told: Told, point: Float64s, k: int, floor: float) -> float:
    """The kernel-weighted mean of the nearest that have k persons."""
    distance = np.sqrt(((told.points - point) ** 2).sum(axis=1))
    order = distance.argsort(kind="stable")
    order = order[: int(told.sizes[order].cumsum().searchsorted(k)) + 1]
    near = distance[order]
    weight = kernel_weights(near, bandwidth(near, float(near[-1]), floor), floor) * told.known[order]
    total = weight.sum()
    return float((weight * told.means[order]).sum() / total) if total else float(np.average(told.means))


def _left(report: Report, config: FederationConfig, domain: str, least: int) -> None:
    schema, rows = _rows(config, domain)
    networks = _networks(config, domain, schema, rows)
    published = held = 0
    sizes: list[int] = []
    mute = alone = 0
    for packets in networks.values():
        alone += sum(n for n in Counter(packet.action for packet in packets).values() if n < least)
        state = _published(packets, _rules(schema, least, 1))
        sizes += [each.atom.size for each in state.held.values()]
        mute += sum(not each.atom.figures for each in state.held.values())
        held += len(packets)
    published = sum(sizes)
    share = 100 * (held - published) / held
    what = f"{domain}, {len(networks)} networks, atoms of {least} or more"
    report.add(Figure(ISSUE, "3", f"{what}: persons in no atom", share, "%", bar="<= 1%", holds=share <= 1))
    said = f"{what}: persons whose action fewer have in their network"
    report.add(Figure(ISSUE, "3", said, 100 * alone / held, "%"))
    report.add(Figure(ISSUE, "3", f"{what}: persons in an atom, mean of {len(sizes)}", float(np.mean(sizes)), ""))
    report.add(Figure(ISSUE, "3", f"{what}: atoms of which no outcome is told", 100 * mute / len(sizes), "%"))


def _arrivals(report: Report, config: FederationConfig) -> None:
    """Half at once, the rest in many small batches: later atoms are wider."""
    schema, rows = _rows(config, "icu.medicine")
    networks = _networks(config, "icu.medicine", schema, rows)
    held = sum(map(len, networks.values()))
    for what, batches in (("at once", 1), (f"half of them in {BATCHES} batches", BATCHES)):
        states = [_published(packets, _rules(schema, 11, 1), batches) for packets in networks.values()]
        published = sum(each.atom.size for state in states for each in state.held.values())
        share = 100 * (held - published) / held
        report.add(Figure(ISSUE, "3", f"icu.medicine, published {what}: persons in no atom", share, "%"))


# No domain of medicine, as those do not release packets.
TEXT = """\
version: 1
registry: {dns: PORT1, http: PORT2, coalesce: 20ms}
domains: {icu.survey: {schema: SCHEMA}}
networks:
  icu-{cat1}:
    domain: icu.survey
    process: hall
    listen: PORT3
    data: examples/data/rhc_icu.csv.gz
    each: {cat1: [ARF, MOSF w/Sepsis, COPD, CHF, Coma, MOSF w/Malignancy, Cirrhosis, Lung Cancer, Colon Cancer]}
gateway: {listen: PORT4, deadline: 30s}
"""


async def _octets(report: Report) -> None:
    """Of answers' bodies that a gateway receives from the networks, under both rules."""
    schema = (ROOT / "examples" / "domains" / "icu.yaml").read_text()
    received = 0
    request = Connections.request

    async def counted(self: Connections, *arguments: object) -> object:
        nonlocal received
        response = await request(self, *arguments)  # type: ignore[arg-type]
        received += len(response.body)
        return response

    Connections.request = counted  # type: ignore[method-assign,assignment]
    try:
        for release in ("packets", "aggregates"):
            with tempfile.TemporaryDirectory() as home:
                path = Path(home) / "icu.yaml"
                path.write_text(schema.replace("min_cohort: 11", "min_cohort: 1") if release == "packets" else schema)
                if release == "packets":
                    path.write_text(path.read_text().replace("release: aggregates", "release: packets"))
                text = TEXT.replace("SCHEMA", str(path))
                async with running(Path(home), text) as (config, _), Federation.open(config) as federation:
                    received = 0
                    if release == "aggregates":
                        await federation.ask(domain="icu.survey", deadline_ms=30_000, **_questions(config, 1)[0])
                        what = "icu.medicine, all pages of an epoch, fetched once"
                        report.add(Figure(ISSUE, "6", what, received, "octets"))
                    for k in (50, 10_000):
                        received = 0
                        for question in _questions(config, 10):
                            await federation.ask(domain="icu.survey", k=k, deadline_ms=30_000, **question)
                        what = f"icu.medicine, release {release}, K={k}: from the networks, per answer"
                        report.add(Figure(ISSUE, "6", what, received / 10, "octets"))
    finally:
        Connections.request = request  # type: ignore[method-assign]


def _questions(config: FederationConfig, n: int) -> list[dict[str, object]]:
    schema, rows = _rows(config, "icu.survey")
    packets = load(rows, schema, "icu.survey", "x", {}).packets
    draw = np.random.default_rng(4)
    points = [packets[row].fingerprint for row in draw.choice(len(packets), n).tolist()]
    return [{"fingerprint": point.tolist(), "space": schema.space.hex()} for point in points]
