"""The main job: the same neighbours as brute force over everything pooled, and how long a warm answer takes."""

from __future__ import annotations

import asyncio
import time

import numpy as np

from benchmarks.live import Pool, configuration, federation_of, flat, found, packets_of, question
from benchmarks.report import Figure, Report
from gateway.answer import Answer
from gateway.federation import Federation

SEED = 20261122
QUESTIONS = 1000  # on each data set, one after the other
WARMING = 50  # asked before them, so that cells and endpoints are in the cache and connections open
K = 50
WAYS = ("action", "all")  # in turn


def run(report: Report) -> None:
    """Figures 1 and 4."""
    asyncio.run(_run(report))


async def _run(report: Report) -> None:
    random = np.random.default_rng(SEED)
    async with federation_of(configuration("main_job")) as (config, _), Federation.open(config) as federation:
        for domain in config.domains:
            pool = Pool(config.schemas()[domain], packets_of(config, domain))
            networks = sum(network.domain == domain for network in config.networks.values())
            tally = Tally(domain, pool, networks)
            queries = pool.queries(QUESTIONS, random)
            for query in queries[:WARMING]:
                await federation.ask(question(domain, pool.schema, query, K, "action"))
            for number, query in enumerate(queries):
                per = WAYS[number % 2]
                asking = question(domain, pool.schema, query, K, per)
                began = time.perf_counter()
                answer = await federation.ask(asking)
                ms = (time.perf_counter() - began) * 1000
                truth = pool.truth(pool.distances2(query), K, per)
                tally.take(per, answer, ms, differs=found(answer.neighbours) != flat(truth))
            tally.report(report)


class Tally:
    """What came of the questions of one domain."""

    def __init__(self, domain: str, pool: Pool, networks: int) -> None:
        self._domain = domain
        self._arms = len(pool.arms("action"))
        self._networks = networks
        self._ms: dict[str, list[float]] = {per: [] for per in WAYS}
        self._asked: dict[str, list[int]] = {per: [] for per in WAYS}
        self._differences = 0
        self._complete = 0

    def take(self, per: str, answer: Answer, ms: float, differs: bool) -> None:
        """One answer; `differs`: in any neighbour, place or bit of a distance."""
        self._differences += differs
        self._complete += answer.certificate.neighbours_complete
        self._ms[per].append(ms)
        self._asked[per].append(sum(each.outcome.ms is not None for each in answer.networks))

    def report(self, report: Report) -> None:
        total = sum(map(len, self._ms.values()))
        name = f"{self._domain}: answers that differ from pooled brute force, of {total:,}"
        report.add(Figure(2, "1", name, self._differences, "answers", bar="= 0", holds=self._differences == 0))
        name = f"{self._domain}: answers certified complete, of {total:,}"
        bar, holds = f"= {total:,}", self._complete == total
        report.add(Figure(2, "1", name, self._complete, "answers", bar=bar, holds=holds))
        for per in WAYS:
            way = f"{self._domain}: K={K} " + (f"for each of {self._arms} actions" if per == "action" else "over all")
            for share in (50, 99):
                value = float(np.percentile(self._ms[per], share))
                report.add(Figure(2, "4", f"{way}: warm answer, p{share}", value, "ms"))
            asked = float(np.mean(self._asked[per]))
            against = f"{self._networks} networks"
            name = f"{way}: networks asked, mean"
            report.add(Figure(2, "4", name, asked, "networks", against, asked / self._networks))
