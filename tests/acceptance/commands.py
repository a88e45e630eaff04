"""`kindred ...` as it is typed, and what becomes of it."""

from __future__ import annotations

import asyncio
import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.cli.main import main


@dataclass(frozen=True)
class Ended:
    """What became of one command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output, which is one JSON text."""
        return orjson.loads(self.out)


async def kindred_command(*arguments: object) -> Ended:
    """Run `kindred ...` in a thread of this process, which saves the second that its imports take.

    What would be a stack trace at the terminal is an exception here.
    """
    out, err = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())

    def run() -> int:
        try:
            return main([str(each) for each in arguments])
        except SystemExit as exit_:  # argparse
            return int(exit_.code or 0)

    with redirect_stdout(out), redirect_stderr(err):
        code = await asyncio.to_thread(run)
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
    assert "Traceback" not in texts[1]
    return Ended(code, *texts)
