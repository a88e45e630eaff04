"""UDP in batches: one system call takes up to BATCH questions, one more sends their answers (recvmmsg, sendmmsg).

Python's socket has no such calls, and two system calls a question cost more than everything else about it
(docs/decisions/010-datagrams-in-batches.md). Where the C library lacks them, datagrams go one by one.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import socket
from collections.abc import Callable
from typing import Protocol

BATCH = 64
_SLOT = 1280  # octets kept for each datagram; what is longer than MAX_UDP is no question, and seen to be longer
_NAME = 28  # octets of a sockaddr_in6, the longest
_DONT_WAIT = socket.MSG_DONTWAIT
_NAMES = {socket.AF_INET: (16, 4, 8), socket.AF_INET6: (28, 8, 24)}  # octets of a sockaddr; where its address is

_log = logging.getLogger(__name__)

Answer = Callable[[bytes, bytes], bytes | None]  # of the question and its sender's address, 4 or 16 octets


class Datagrams(Protocol):
    def serve(self) -> None:
        """Answer what waits on the socket, a batch at most."""


def datagrams(udp: socket.socket, answer: Answer) -> Datagrams:
    """In batches where this system can. `udp`: bound, not blocking. `answer`: at most MAX_UDP octets."""
    try:
        return _Batches(udp, answer)
    except (AttributeError, OSError):
        return _OneByOne(udp, answer)


class _OneByOne:
    """recvfrom and sendto."""

    def __init__(self, udp: socket.socket, answer: Answer) -> None:
        self._udp = udp
        self._answer = answer

    def serve(self) -> None:
        for _ in range(BATCH):
            try:
                query, peer = self._udp.recvfrom(_SLOT)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:  # what the network reports of earlier answers
                _log.debug("receiving: %s", error)
                return
            answer = self._answer(query, socket.inet_pton(self._udp.family, peer[0].partition("%")[0]))
            if answer is not None:
                # A full buffer drops the answer as the network may; the asker asks again.
                with contextlib.suppress(OSError):
                    self._udp.sendto(answer, peer)


class _Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """struct mmsghdr, its msghdr spelled out (recvmmsg(2), recvmsg(2)), on systems of 64 bits."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint64),  # a socklen_t and padding
        ("vectors", ctypes.c_void_p),
        ("vectors_length", ctypes.c_uint64),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),  # an int and padding
        ("length", ctypes.c_uint64),  # an unsigned int and padding
    )


_WORDS = ctypes.sizeof(_Message) // 8


class _Batches:
    """recvmmsg and sendmmsg. An answer lies in the slot of its number, and names the slot of its question's sender."""

    def __init__(self, udp: socket.socket, answer: Answer) -> None:
        if ctypes.sizeof(ctypes.c_void_p) != 8:
            raise OSError("the layout of messages is that of 64 bits")
        # PyDLL: neither call waits, and who lets go of the interpreter here gets it back only from busy threads.
        library = ctypes.PyDLL(None, use_errno=True)
        self._receive, self._send = library.recvmmsg, library.sendmmsg
        self._receive.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
        self._send.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
        self._udp = udp
        self._answer = answer
        self._name_length, self._address, self._address_end = _NAMES[udp.family]
        self._names = bytearray(BATCH * _NAME)
        self._questions, self._answers = bytearray(BATCH * _SLOT), bytearray(BATCH * _SLOT)
        self._name_at = _address_of(self._names)
        self._received, self._receiving = self._messages(self._questions)
        self._to_send, self._sending = self._messages(self._answers)
        self._lengths_in = memoryview(self._received).cast("B").cast("Q")
        self._words_out = memoryview(self._to_send).cast("B").cast("Q")
        self._vectors_out = memoryview(self._sending).cast("B").cast("Q")
        self._view = memoryview(self._questions)

    def _messages(self, buffer: bytearray) -> tuple[ctypes.Array[_Message], ctypes.Array[_Vector]]:
        start = _address_of(buffer)
        vectors = (_Vector * BATCH)(*[_Vector(start + i * _SLOT, _SLOT) for i in range(BATCH)])
        first, size = ctypes.addressof(vectors), ctypes.sizeof(_Vector)
        names, length = self._name_at, self._name_length
        messages = (_Message * BATCH)(*[_Message(names + i * _NAME, length, first + i * size, 1) for i in range(BATCH)])
        return messages, vectors

    def serve(self) -> None:
        n = self._receive(self._udp.fileno(), ctypes.addressof(self._received), BATCH, _DONT_WAIT, None)
        if n < 0:  # nothing there, or what the network reports of earlier answers
            return
        answer_to, lengths, view, names = self._answer, self._lengths_in, self._view, self._names
        answers, words, vectors = self._answers, self._words_out, self._vectors_out
        first, last, name_at = self._address, self._address_end, self._name_at
        answered = 0
        for i in range(n):
            at, name = i * _SLOT, i * _NAME
            query = view[at : at + (lengths[i * _WORDS + 7] & 0xFFFFFFFF)].tobytes()
            answer = answer_to(query, bytes(names[name + first : name + last]))
            if answer is not None:
                at = answered * _SLOT
                answers[at : at + len(answer)] = answer
                vectors[2 * answered + 1] = len(answer)
                words[answered * _WORDS] = name_at + name
                answered += 1
        self._send_first(answered)

    def _send_first(self, n: int) -> None:
        """Send the first n answers. A full buffer drops the rest as the network may; the askers ask again."""
        first, size = ctypes.addressof(self._to_send), ctypes.sizeof(_Message)
        sent = 0
        while sent < n:
            done = self._send(self._udp.fileno(), first + sent * size, n - sent, _DONT_WAIT)
            if done > 0:
                sent += done
            elif ctypes.get_errno() in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS):
                return
            else:  # this one cannot be sent
                sent += 1


def _address_of(buffer: bytearray) -> int:
    return ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))
