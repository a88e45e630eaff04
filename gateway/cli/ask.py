"""`kindred ask`: what happened to others in this situation; asks the networks itself, without a gateway's server."""

from __future__ import annotations

import argparse
import sys

import orjson
from rich.console import Console

from gateway.cli import question
from gateway.cli.exits import Exit
from gateway.cli.render import show_answer
from gateway.federation import Federation


def add_arguments(command: argparse.ArgumentParser) -> None:
    question.add_arguments(command)
    command.add_argument("--action", action="append", dest="actions", help="only this action (repeatable)")
    command.add_argument("--outcome", action="append", dest="outcomes", help="only this outcome (repeatable)")
    mode = command.add_mutually_exclusive_group()
    mode.add_argument("--recall", type=float, metavar="X", help="enough when this share is expected, as 0.99")
    mode.add_argument("--budget", type=int, metavar="N", help="ask at most so many networks, the most promising")
    command.add_argument("--require-exact", action="store_true", help="exit 3 unless proved complete")


async def run(options: argparse.Namespace) -> int:
    async with Federation.open(options.config) as federation:
        answer = await federation.ask(question.question_of(options, federation))
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(answer.document()) + b"\n")
    else:
        show_answer(answer, Console())
    if any(warning["code"] == "nobody-covers" for warning in answer.warnings):
        sys.stderr.write(f"kindred: nobody covers {answer.domain} yet\n")
        return Exit.NOBODY
    if options.require_exact and not answer.certificate.neighbours_complete:
        sys.stderr.write("kindred: the neighbours are not proved complete; see the certificate\n")
        return Exit.INCOMPLETE
    return Exit.DONE
