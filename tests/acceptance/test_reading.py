"""docs/reading-an-answer.md: the examples in it are what the shipped data answer."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from rich.console import Console

from gateway.answer import Answer
from gateway.cli.findings import show_findings
from tests.acceptance.federated import ROOT, Federated, federated, situation, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = ROOT / "docs" / "reading-an-answer.md"
WIDTH = 120
FEDERATION = """
version: 1
registry: {dns: @dns, http: @http}
domains:
  icu.medicine: {schema: $ROOT/examples/domains/icu.yaml}
  smoking.medicine: {schema: $ROOT/examples/domains/smoking.yaml}
networks:
  icu-{cat1}:
    domain: icu.medicine
    process: all
    listen: @all
    data: $ROOT/examples/data/rhc_icu.csv.gz
    each:
      cat1: [ARF, MOSF w/Sepsis, COPD, CHF, Coma, MOSF w/Malignancy, Cirrhosis, Lung Cancer, Colon Cancer]
  smoking-{cohort}:
    domain: smoking.medicine
    process: all
    listen: @all
    data: $ROOT/examples/data/nhefs.csv.gz
    each: {cohort: {column: seqn, parts: 4}}
gateway: {listen: @gateway, deadline: 10s}
"""
# The commands as the page shows them, and how many the whole of the domain counts at least.
ICU = ("kindred ask icu.medicine --situation examples/situations/icu.json -k 100", 5_700)
SMOKING = tuple(
    (f"kindred ask smoking.medicine --situation examples/situations/{options}", least)
    for options, least in (
        ("smoking-70.json -k 10 --outcome weight_change", 1_566),
        ("smoking.json -k 10 --outcome died", 1_629),
        ("smoking.json -k 50 --outcome weight_change", 1_566),
    )
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Federated]:
    """Who is released together is drawn by lot, under a secret; here under one that is the same each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("regional.releasing.ledger.secrets", SimpleNamespace(token_bytes=lambda n: bytes(range(n))))
        async with federated(tmp_path_factory.mktemp("reading"), FEDERATION) as found:
            await found.deposit()
            yield found


@pytest.mark.parametrize(("command", "least"), SMOKING)
async def test_an_example_is_what_is_answered_letter_by_letter(running: Federated, command: str, least: int) -> None:
    console = Console(width=WIDTH, file=io.StringIO())
    show_findings(await answered(running, command, least), console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert shown(command) == "".join(line.rstrip() + "\n" for line in lines)


async def test_adjusting_shrinks_the_harm_and_does_not_remove_it(running: Federated) -> None:
    """So many come in several batches, and who is released together depends on who was there first: what is compared is
    over the whole domain."""
    outcome: Any = (await answered(running, *ICU)).document()["synthesis"]
    [pair] = outcome["died_30d"]["differences"]
    whole = pair["whole"]
    assert f"over the whole domain {whole['estimate']:.3g}" in shown(ICU[0])
    assert 0 < whole["adjusted"]["low"] < whole["adjusted"]["estimate"] < whole["estimate"]


def shown(command: str) -> str:
    """What the page shows below a command."""
    found = re.search(rf"```\n\$ {re.escape(command)}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None, f"the page does not show: {command}"
    return found[1]


async def answered(running: Federated, command: str, least: int) -> Answer:
    """The answer, once the whole domain is known to the gateway."""
    _, _, domain, _, path, _, k, *outcome = command.split()
    asked: dict[str, Any] = {"domain": domain, "situation": situation(Path(path).stem), "k": int(k)}
    if outcome:
        asked["outcomes"] = outcome[1:]
    answers: list[Answer] = []

    async def whole() -> bool:
        answers[:] = [await running.federation.ask(**asked)]
        outcomes: Any = answers[0].document()["synthesis"]
        return max(each["adjustment"]["n"] for each in outcomes.values()) >= least

    await until(whole)
    return answers[0]
