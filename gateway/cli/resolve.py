"""`kindred resolve`: the walk through the registry, as dig shows it; nothing but DNS."""

from __future__ import annotations

import argparse
import sys

import orjson

from gateway.cli import question
from gateway.cli.exits import Exit
from gateway.cli.render import console, show_walk
from gateway.federation import Federation

add_arguments = question.add_arguments


async def run(options: argparse.Namespace) -> int:
    async with Federation.open(options.config) as federation:
        walked = await federation.resolve(question.question_of(options))
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(walked) + b"\n")
    else:
        show_walk(walked, console())
    return Exit.DONE if walked["generation"] else Exit.NOBODY
