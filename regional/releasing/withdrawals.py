"""The log of withdrawals: which nodes have had their packets taken out, kept where no backup reaches.

Whoever restores a backup brings back those who have left since. This log is no part of it: when a network opens its
store, it takes them out again. It holds no node's name, only digests under a salt of its own. Beside them it notes the
newest epoch of the network's atoms, so that a ledger which was set back is not taken for the present.

One line each, JSON, on the disk before the withdrawal is acknowledged; a last line that a crash cut short was not.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Any, Final

import orjson

from registry.errors import Corrupt

_SALT_OCTETS: Final = 16


class Withdrawals:
    """Of one network, in the file `path`. epoch: the newest of its atoms, 0 for none."""

    def __init__(self, path: Path) -> None:
        """Open, or begin. Raises Corrupt."""
        self._path = path
        self._seqs: dict[bytes, int] = {}
        self._receipts: dict[bytes, str] = {}
        self.epoch = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.read_bytes() if path.exists() else b""
        lines = whole.split(b"\n")[:-1]
        self._salt = secrets.token_bytes(_SALT_OCTETS)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if lines:
                self._salt = bytes.fromhex(orjson.loads(lines[0])["salt"])
                for line in lines[1:]:
                    self._take(orjson.loads(line))
        except (KeyError, TypeError, ValueError) as error:
            os.close(self._file)
            raise Corrupt(f"{path}: the log of withdrawals does not decode ({error!r:.100})") from None
        kept = sum(len(line) + 1 for line in lines)
        os.ftruncate(self._file, kept)
        os.lseek(self._file, kept, os.SEEK_SET)
        if not lines:
            self._append({"salt": self._salt.hex()})

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def __len__(self) -> int:
        return len(self._seqs)

    def add(self, node: bytes, seq: int, now: float) -> str:
        """All packets of the node up to this seq are withdrawn; returns the receipt, once that is on the disk."""
        self._append(entry := {"node": self._digest(node).hex(), "seq": str(seq), "at": now})
        self._take(entry)
        return self._receipts[self._digest(node)]

    def seq(self, node: bytes) -> int | None:
        """Packets of the node up to this one are withdrawn; None where none is."""
        return self._seqs.get(self._digest(node))

    def receipt(self, node: bytes) -> str | None:
        """The digest of the line that says that the node was withdrawn."""
        return self._receipts.get(self._digest(node))

    def note_epoch(self, epoch: int) -> None:
        """The network's atoms have come to this epoch; durably."""
        self._append({"epoch": epoch})
        self.epoch = epoch

    def _take(self, entry: dict[str, Any]) -> None:
        if "epoch" in entry:
            self.epoch = max(self.epoch, int(entry["epoch"]))
            return
        digest = bytes.fromhex(entry["node"])
        self._receipts[digest] = hashlib.sha256(orjson.dumps(entry)).hexdigest()
        self._seqs[digest] = max(int(entry["seq"]), self._seqs.get(digest, -1))

    def _append(self, entry: dict[str, Any]) -> None:
        line = orjson.dumps(entry) + b"\n"
        written = os.write(self._file, line)
        if written != len(line):
            raise OSError(f"{self._path}: {written} of {len(line)} octets were written")
        os.fsync(self._file)

    def _digest(self, node: bytes) -> bytes:
        return hashlib.blake2b(node, key=self._salt, digest_size=16).digest()
