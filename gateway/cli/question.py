"""`kindred ask` and `kindred resolve`: one question from the command line, without any server beside it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from gateway.cli.commands import Commands
from gateway.cli.exits import Exit
from gateway.cli.render import show_answer, show_walk
from gateway.federation import Federation
from gateway.question import Question
from registry.errors import QuestionError
from registry.jsontext import loads


def add_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], shared: argparse.ArgumentParser
) -> None:
    for name, run, text in (
        ("ask", ask, "what happened to others in this situation, by what was done"),
        ("resolve", resolve, "show the walk through the registry, like dig"),
    ):
        command = commands.add_parser(name, parents=[shared], help=text, description=text)
        command.add_argument("domain", help="for example crash.vehicles")
        command.add_argument("features", nargs="*", metavar="FEATURE=VALUE", help="the situation")
        command.add_argument("--situation", type=Path, metavar="FILE.json", help="the situation as a JSON object")
        command.add_argument("-k", type=int, default=50, help="neighbours per action (default 50)")
        command.add_argument("--per", choices=("action", "all"), default="action")
        command.add_argument(
            "--deadline", type=int, default=None, metavar="MS", help="milliseconds, default from the file"
        )
        command.set_defaults(run=run)
        if name == "ask":
            command.add_argument("--action", action="append", dest="actions", help="only this action (repeatable)")
            command.add_argument("--outcome", action="append", dest="outcomes", help="only this outcome (repeatable)")
            command.add_argument(
                "--require-exact", action="store_true", help="exit 3 unless the neighbours are proved complete"
            )


async def ask(options: argparse.Namespace) -> int:
    async with Federation.open(options.config) as federation:
        answer = await federation.ask(_question(options, federation))
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


async def resolve(options: argparse.Namespace) -> int:
    async with Federation.open(options.config) as federation:
        walked = await federation.resolve(_question(options, federation))
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(walked) + b"\n")
    else:
        show_walk(walked, Console())
    return Exit.DONE if walked["generation"] else Exit.NOBODY


def _question(options: argparse.Namespace, federation: Federation) -> Question:
    members: dict[str, Any] = {
        "domain": options.domain,
        "situation": _situation(options),
        "k": options.k,
        "per": options.per,
        "deadline_ms": options.deadline or round(federation.deadline_s * 1000),
    }
    for name in ("actions", "outcomes"):
        if getattr(options, name, None):
            members[name] = getattr(options, name)
    return Question.from_document(members)


def _situation(options: argparse.Namespace) -> dict[str, Any]:
    situation: dict[str, Any] = {}
    if options.situation is not None:
        loaded = loads(options.situation.read_bytes())
        if not isinstance(loaded, dict):
            raise QuestionError(f"{options.situation}: a situation is a JSON object of features")
        situation.update(loaded)
    for pair in options.features:
        name, separator, text = pair.partition("=")
        if not separator:
            raise QuestionError(f"{pair!r} is not FEATURE=VALUE")
        situation[name] = _value(text)
    return situation


def _value(text: str) -> object:
    """A number where it reads as one, true and false, nothing for an empty text; else the text."""
    if text in ("", "null"):
        return None
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
