"""`kindred ask`: what happened to others in this situation; asks the networks itself, without a gateway's server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.cli import question
from gateway.cli.exits import Exit
from gateway.cli.render import console, show_answer, show_forecast
from gateway.federation import Federation


def add_arguments(command: argparse.ArgumentParser) -> None:
    question.add_arguments(command)
    command.add_argument("--action", action="append", dest="actions", help="only this action (repeatable)")
    command.add_argument("--outcome", action="append", dest="outcomes", help="only this outcome (repeatable)")
    command.add_argument("--corroborate", action="store_true", help="let each network speak for itself as well")
    command.add_argument("--plan", action="store_true", help="say what asking would cost, and ask nobody")
    command.add_argument("--require-exact", action="store_true", help="exit 3 unless proved complete")


async def run(options: argparse.Namespace) -> int:
    async with Federation.open(options.config) as federation:
        asked = question.question_of(options)
        if options.plan:
            return _plan(await federation.resolve(asked), options.json)
        answer = await federation.ask(asked)
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(answer.document()) + b"\n")
    else:
        show_answer(answer, console())
    if any(warning["code"] == "nobody-covers" for warning in answer.warnings):
        sys.stderr.write(f"kindred: nobody covers {answer.domain} yet\n")
        return Exit.NOBODY
    if options.require_exact and not answer.certificate.neighbours_complete:
        sys.stderr.write("kindred: the neighbours are not proved complete; see the certificate\n")
        return Exit.INCOMPLETE
    return Exit.DONE


def _plan(walked: Mapping[str, Any], as_json: bool) -> int:
    if as_json:
        sys.stdout.buffer.write(orjson.dumps({"forecast": walked["forecast"]}) + b"\n")
    else:
        show_forecast(walked, console())
    return Exit.DONE if walked["generation"] else Exit.NOBODY
