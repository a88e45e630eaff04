"""A question from the command line: `FEATURE=VALUE ...`, or a file with the situation."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gateway.question import Question
from registry.errors import QuestionError
from registry.jsontext import loads


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("domain", help="for example crash.vehicles")
    command.add_argument("features", nargs="*", metavar="FEATURE=VALUE", help="the situation")
    command.add_argument("--situation", type=Path, metavar="FILE.json", help="the situation as a JSON object")
    command.add_argument("-k", type=int, default=50, help="neighbours per action (default 50)")
    command.add_argument("--per", choices=("action", "all"), default="action")
    mode = command.add_mutually_exclusive_group()
    mode.add_argument("--recall", type=float, metavar="X", help="stop when this share of the neighbours is expected")
    mode.add_argument("--budget", type=int, metavar="N", help="ask at most N networks, the most promising")
    command.add_argument("--deadline", type=int, metavar="MS", help="milliseconds, default from the file")


def question_of(options: argparse.Namespace) -> Question:
    members: dict[str, Any] = {
        "domain": options.domain,
        "situation": _situation(options),
        "k": options.k,
        "per": options.per,
        "deadline_ms": options.deadline,
    }
    for name in ("recall", "budget"):
        if getattr(options, name, None) is not None:
            members["mode"] = {name: getattr(options, name)}
    for name in ("actions", "outcomes", "corroborate"):
        if getattr(options, name, None):
            members[name] = getattr(options, name)
    return Question.from_document(members)


def _situation(options: argparse.Namespace) -> dict[str, Any]:
    situation: dict[str, Any] = {}
    if options.situation is not None:
        try:
            loaded = loads(options.situation.read_bytes())
        except OSError as error:
            raise QuestionError(f"{options.situation}: cannot be read: {error.strerror}") from None
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
