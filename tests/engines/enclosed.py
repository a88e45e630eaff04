"""A server that listens everywhere, in a network namespace of its own, and one port of it on 127.0.0.1.

`unshare --net python -m tests.engines.enclosed SOCKET PORT COMMAND...`: SOCKET is a listening socket of the namespace
from which it was started; who connects to it is connected to PORT in here. Ends with the server, which ends with it.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import socket
import subprocess
import sys
from contextlib import suppress

from tests.programs import program

_CHUNK = 1 << 18
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def _follow() -> None:
    """The server is killed when this process is."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()


async def main(listening: socket.socket, port: int, command: list[str]) -> None:
    """Until the server has ended."""
    server = subprocess.Popen(command, preexec_fn=_follow)  # noqa: PLW1509, ASYNC220

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inside = await asyncio.open_connection("127.0.0.1", port, limit=_CHUNK)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, inside[1]), _pump(inside[0], writer))

    await asyncio.start_server(serve, sock=listening, limit=_CHUNK)
    await asyncio.to_thread(server.wait)


if __name__ == "__main__":
    subprocess.run([program("ip"), "link", "set", "lo", "up"], check=True)
    asyncio.run(main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]), sys.argv[3:]))
