"""A network dies under a question: the answer is on time, and the certificate says exactly what may be missing."""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from benchmarks.live import Fingerprint, Neighbour, Pool, configuration, deposit, flat, found, packets_of, question
from benchmarks.report import Figure, Report
from gateway.answer import Answer
from gateway.cli import network
from gateway.cli.up import Processes
from gateway.configuration.config import FederationConfig
from gateway.federation import Federation
from gateway.planning.merge import RADIUS_SLACK
from registry.geometry.cell import Address, CellRecord
from registry.geometry.region import Bounds, Vector

SEED = 20261122
DOMAIN = "crash.vehicles"
QUESTIONS = 200
EVERY_STOPPED = 3  # each third network is stopped (it accepts and says nothing), the others are killed
KS = (1, 10, 100)
MEMBERS = 0.3  # of the questions; with K=1 of a member's own fingerprint, most networks are too far to be missed
DEADLINE_MS = 1000
START_S = 60.0


def run(report: Report) -> None:
    """Figure 3."""
    asyncio.run(_run(report))


async def _run(report: Report) -> None:
    path = configuration("killed", _one_process_each)
    config = FederationConfig.from_yaml(path)
    random = np.random.default_rng(SEED)
    async with Forked(config, path) as processes:
        await deposit(config)
        async with Federation.open(config) as federation:
            pool = Pool(config.schemas()[DOMAIN], packets_of(config, DOMAIN))
            held = await published(federation)
            queries = pool.queries(QUESTIONS, random, MEMBERS)
            for query in queries[:20]:  # fill the cache, open the connections
                await federation.ask(question(DOMAIN, pool.schema, query, KS[0], "action"))
            tally = Tally()
            for number, query in enumerate(queries):
                victim = str(random.choice(sorted(config.networks)))
                per, k = ("action", "all")[number % 2], int(random.choice(KS))
                asking = question(DOMAIN, pool.schema, query, k, per, DEADLINE_MS)
                stopped = number % EVERY_STOPPED == EVERY_STOPPED - 1
                await (processes.stop(victim) if stopped else processes.kill(victim))
                began = time.perf_counter()
                answer = await federation.ask(asking)
                ms = (time.perf_counter() - began) * 1000
                await (processes.go_on(victim) if stopped else processes.start_network(victim))
                tally.take(stopped, ms, answer, wrongs(pool, held[victim], query, victim, answer))
    tally.report(report)


def _one_process_each(document: dict[str, Any]) -> None:
    """The crash domain alone; each of its networks listens at a port of its own, in a process of its own."""
    networks = {}
    number = 0
    for pattern, section in document["networks"].items():
        if section["domain"] != DOMAIN:
            continue
        for value in section.get("each", {"site_psu": [None]})["site_psu"]:
            each = deepcopy(section)
            each.pop("process", None)
            if each.pop("each", None):
                each["where"] = {"site_psu": value}
            number += 1
            each["listen"] = f"127.0.0.1:{number}"  # a port is found for each
            networks[pattern.replace("{site_psu}", str(value))] = each
    document["networks"] = networks
    document["domains"] = {DOMAIN: document["domains"][DOMAIN]}


# ---- networks that can die and be back soon ------------------------------------------------------------------


class Forked(Processes):
    """As `kindred up`, but network processes are forked from one that has loaded the code: back in a moment."""

    def __init__(self, config: FederationConfig, path: Path) -> None:
        super().__init__(config, path)
        self._own = config
        self._file = path
        self._forks = multiprocessing.get_context("forkserver")
        self._forks.set_forkserver_preload(["gateway.cli.network"])
        self._running: dict[str, ForkServerProcess] = {}
        (config.data_dir / "log").mkdir(parents=True, exist_ok=True)

    async def __aenter__(self) -> Forked:
        await super().__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._running.values():
            process.kill()
            process.join()
        await super().__aexit__()

    async def start_network(self, process: str) -> None:
        log = self._own.data_dir / "log" / f"{process}.log"
        fork = self._forks.Process(target=_serve, args=(self._file, process, log), daemon=True)
        fork.start()
        self._running[process] = fork
        async with asyncio.timeout(START_S), aiohttp.ClientSession() as session:
            while True:
                with suppress(aiohttp.ClientError):
                    async with session.get(f"{self._own.networks[process].endpoint}/healthz"):
                        return
                await asyncio.sleep(0.02)

    async def kill(self, name: str) -> None:
        process = self._running.pop(name)
        process.kill()
        await asyncio.to_thread(process.join)

    async def stop(self, name: str) -> None:
        """From now on the kernel takes connections for it, and nobody answers."""
        pid = self._running[name].pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        while _state(pid) != "T":
            await asyncio.sleep(0.001)

    async def go_on(self, name: str) -> None:
        """The end of `stop`."""
        pid = self._running[name].pid
        assert pid is not None
        os.kill(pid, signal.SIGCONT)


def _state(pid: int) -> str:
    """As ps shows it: R, S, T (stopped) ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _serve(path: Path, name: str, log: Path) -> None:
    sink = log.open("a")
    os.dup2(sink.fileno(), sys.stdout.fileno())
    os.dup2(sink.fileno(), sys.stderr.fileno())
    asyncio.run(network.run(argparse.Namespace(config=path, name=name, process=None)))


# ---- the certificate against the truth -----------------------------------------------------------------------


async def published(federation: Federation) -> Mapping[str, list[CellRecord]]:
    """The regions that DNS has of every network of the domain, from a walk of the whole tree."""
    tree = await federation.resolver.tree(federation.naming(DOMAIN), START_S)
    regions: dict[str, list[CellRecord]] = {}
    frontier: list[Address] = [()]
    while frontier:
        cell = await federation.resolver.cell(tree, frontier.pop(), START_S)
        for record in cell.value.records:
            if record.child is not None:
                frontier.append(record.child)
            else:
                regions.setdefault(str(record.network), []).append(record)
    return regions


def lower_bounds(records: list[CellRecord], query: Fingerprint, arms: tuple[str, ...]) -> Vector:
    """(a,): no packet of the arm behind these records is nearer than this."""
    lower = Bounds.of([record.region for record in records]).lower(query.astype(np.float64))
    holds = np.array([[not arm or arm in record.region.counts for arm in arms] for record in records])
    result: Vector = np.where(holds, lower[:, None], np.inf).min(axis=0)
    return result


def wrongs(pool: Pool, records: list[CellRecord], query: Fingerprint, victim: str, answer: Answer) -> list[str]:
    """What the answer says that is not so, by brute force over all packets, those of the dead network among them."""
    k, arms = answer.k, pool.arms(answer.per)
    distances2 = pool.distances2(query)
    truth = pool.truth(distances2, k, answer.per)
    of_others = pool.truth(distances2, k, answer.per, without=victim)
    radius = np.array([np.sqrt(arm[-1][2]) * (1 + RADIUS_SLACK) if len(arm) == k else np.inf for arm in of_others])
    lower = lower_bounds(records, query, arms)
    near = lower <= radius
    certificate, got = answer.certificate, found(answer.neighbours)
    missing = [each for each in certificate.missing if each.network == victim]
    problems = {
        "neighbours are not those of the other networks": got != flat(of_others),
        "another network or a cell is missing": len(certificate.missing) != len(missing),
        "missing though its bound is beyond r": bool(missing) and not near.any(),
        "not missing though its bound is within r": not missing and bool(near.any()),
        "complete or not": certificate.neighbours_complete != (not near.any()),
        "complete and not the truth": certificate.neighbours_complete and got != flat(truth),
    }
    within = np.minimum(radius, np.where(near, lower, np.inf))
    said = [certificate.complete_within_per[arm] for arm in arms]
    least = np.inf if certificate.complete_within is None else certificate.complete_within
    problems["complete_within is not the bound of what is missing"] = not np.allclose(
        [np.inf if each is None else each for each in said], within, rtol=1e-9
    ) or not np.isclose(least, within.min(), rtol=1e-9)
    problems["a packet nearer than complete_within is absent"] = _absent(pool, distances2, arms, said, got)
    if missing and near.any():
        lost = set(flat(truth)) - set(got)
        could = k * int(near.sum())  # of each arm within reach: its counts may be older than its packets
        problems["at_most is too low"] = missing[0].at_most < len(lost)
        problems["at_most is more than K for each arm"] = missing[0].at_most > could
        problems["lower_bound"] = not np.isclose(missing[0].lower_bound, lower[near].min(), rtol=1e-9)
    return [name for name, wrong in problems.items() if wrong]


def _absent(
    pool: Pool, distances2: Vector, arms: tuple[str, ...], within: list[float | None], got: list[Neighbour]
) -> bool:
    """Whether any packet lies nearer than is certified for its arm, and is not in the answer."""
    there = {(name, node) for name, node, _ in got}
    for arm, bound in zip(arms, within, strict=True):
        mine = (pool.actions == arm) if arm else np.ones(len(pool.nodes), dtype=np.bool_)
        near = np.flatnonzero(mine & (np.sqrt(distances2) < (np.inf if bound is None else bound)))
        if any((str(pool.networks[row]), pool.nodes[row]) not in there for row in near):
            return True
    return False


class Tally:
    """What came of the questions, by how the network died."""

    def __init__(self) -> None:
        self._ms: dict[bool, list[float]] = {False: [], True: []}
        self._wrong: Counter[str] = Counter()
        self._wrong_answers = 0
        self._named = 0

    def take(self, stopped: bool, ms: float, answer: Answer, wrong: list[str]) -> None:
        self._ms[stopped].append(ms)
        self._wrong.update(wrong)
        self._wrong_answers += bool(wrong)
        self._named += bool(answer.certificate.missing)

    def report(self, report: Report) -> None:
        for name, times in self._wrong.most_common():
            print(f"  wrong in {times}: {name}")
        total = sum(map(len, self._ms.values()))
        name = f"certificates wrong against the pooled truth, of {total}"
        report.add(Figure(2, "3", name, self._wrong_answers, "answers", bar="= 0", holds=self._wrong_answers == 0))
        report.add(Figure(2, "3", f"the dead network named as missing, of {total}", self._named, "answers"))
        for stopped, how in ((False, "killed (SIGKILL)"), (True, "silent (SIGSTOP)")):
            ms = self._ms[stopped]
            report.add(Figure(2, "3", f"{how}: answer, {len(ms)} questions, p50", float(np.median(ms)), "ms"))
            latest, bar = max(ms), f"<= {DEADLINE_MS} ms"
            ratio = latest / DEADLINE_MS
            name = f"{how}: latest answer"
            report.add(Figure(2, "3", name, latest, "ms", "the deadline", ratio, bar, latest <= DEADLINE_MS))
