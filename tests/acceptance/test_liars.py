"""One network of six claims to hold all that is near and lies about it: others are heard, and the answer says so."""

from __future__ import annotations

import csv
import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from tests.acceptance.federated import DATA, ROOT, Document, Federated, federated, situation

pytestmark = pytest.mark.asyncio(loop_scope="module")

FEDERATION = """
version: 1
registry: {dns: @dns, http: @http}
domains:
  smoking.medicine: {schema: $ROOT/examples/domains/smoking.yaml}
  smoking.survey: {schema: $HOME/survey.yaml}
networks:
  honest-{part}:
    domain: smoking.medicine
    process: honest
    listen: @honest
    data: $ROOT/examples/data/nhefs.csv.gz
    each: {part: {column: seqn, parts: 5}}
  survey-{part}:
    domain: smoking.survey
    process: honest
    listen: @honest
    data: $ROOT/examples/data/nhefs.csv.gz
    each: {part: {column: seqn, parts: 5}}
  liar: {domain: smoking.medicine, process: liar, listen: @liar, data: $HOME/liar.csv}
  survey-liar: {domain: smoking.survey, process: liar, listen: @liar, data: $HOME/liar.csv}
gateway: {listen: @gateway}
"""
LIARS = {"smoking.medicine": "liar", "smoking.survey": "survey-liar"}  # of aggregates, and of packets


def lies(path: Path) -> None:
    """200 quitters who all gained 90 kg and 200 others who all lost 40, give or take one, just like who will ask."""
    with gzip.open(DATA / "nhefs.csv.gz", "rt", newline="") as source:
        header = next(csv.reader(source))
    asking = situation("smoking")
    like = {
        "death": 0, "sex": 1, "age": asking["age"], "race": 0, "income": 20.0, "marital": 2,
        "school": asking["schooling"], "education": 3, "ht": asking["height"], "wt71": asking["weight"],
        "sbp": asking["systolic"], "dbp": 78, "smokeintensity": asking["cigarettes"],
        "smokeyrs": asking["smoking_years"], "asthma": 0, "bronch": 0, "hbp": 0, "diabetes": 0, "alcoholpy": 1,
        "alcoholfreq": 2, "exercise": 1, "active": 1, "cholesterol": asking["cholesterol"],
    }  # fmt: skip
    random = np.random.default_rng(3)
    with path.open("w", newline="") as target:
        writer = csv.DictWriter(target, header)
        writer.writeheader()
        for number in range(400):
            change = (90 if number % 2 else -40) + random.uniform(-1, 1)
            writer.writerow({**like, "seqn": 1_000_000 + number, "qsmk": number % 2, "wt82_71": change})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Federated]:
    home = tmp_path_factory.mktemp("liars")
    lies(home / "liar.csv")
    schema = (ROOT / "examples" / "domains" / "smoking.yaml").read_text()
    packets = schema.replace("release: aggregates", "release: packets").replace("min_cohort: 11", "min_cohort: 1")
    (home / "survey.yaml").write_text(packets)
    async with federated(home, FEDERATION) as found:
        await found.deposit()
        yield found


async def ask(running: Federated, domain: str, **members: object) -> Document:
    return await running.ask(domain=domain, situation=situation("smoking"), k=50, outcomes=["weight_change"], **members)


@pytest.mark.parametrize("domain", LIARS)
async def test_who_claims_to_be_nearest_is_not_the_only_one_heard(running: Federated, domain: str) -> None:
    answer = await ask(running, domain, corroborate=True)
    # All neighbours lie at distance 0: nobody but the liar had to be asked for them.
    assert {each["network"] for each in answer["neighbours"]} == {LIARS[domain]}
    [difference] = answer["synthesis"]["weight_change"]["differences"]
    assert difference["estimate"] > 100
    [told] = answer["synthesis"]["weight_change"]["heterogeneity"]
    assert len(told["networks"]) == 5
    assert sum(each["network"] == LIARS[domain] for each in told["networks"]) == 1
    assert "networks disagree" in told["flags"]
    assert abs(told["median"]["estimate"]) < 10
    assert abs(told["robust"]["estimate"]) < 10
    assert told["robust"]["aside"] == [LIARS[domain]]


@pytest.mark.parametrize("domain", LIARS)
async def test_without_being_asked_to_nobody_contradicts(running: Federated, domain: str) -> None:
    """What the certificate says of neighbours is true; that the outcomes are is not its to say."""
    answer = await ask(running, domain)
    assert answer["certificate"]["neighbours_complete"] is True
    assert answer["synthesis"]["weight_change"]["heterogeneity"] is None
