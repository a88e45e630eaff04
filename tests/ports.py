"""Ports for servers that tests start."""

from __future__ import annotations

import random
import socket


def free_port(*hosts: str) -> int:
    """A port that UDP and TCP can both have on every host, outside the range from which connections take theirs.

    hosts: 127.0.0.1 where none is named.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        if all(_is_free(host, port) for host in hosts or ("127.0.0.1",)):
            return port


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        try:
            tcp.bind((host, port))
            udp.bind((host, port))
        except OSError:
            return False
        return True
