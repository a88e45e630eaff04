"""What a row of a Milvus collection holds: a packet, the mark of one that is gone, or a part of a note."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from pymilvus import AsyncMilvusClient, DataType

from regional.engines.backing import NEVER
from regional.packets.packet import MAX_NODE, NO_FINGERPRINT
from regional.packets.packetcbor import Fingerprint
from registry.errors import ConfigError

FOUND, WITHDRAWN, GONE, NOTE = 0, 1, 2, 3  # states: a packet, a tombstone, the mark of one that is gone, a note
PLACE: Final = "place"
INDEX: Final = {"index_type": "FLAT", "metric_type": "L2"}
FIELDS: Final = ("state", "seq", "bucket", "packet")
_TEXT: Final = 65_535  # bytes that a text of Milvus has at most
_PART: Final = 45_000  # bytes of a note that one row holds, in base64
_SHIFT: Final = 1 << 63  # a seq has 64 bits, Milvus' numbers 63 and a sign

Row = dict[str, Any]


class Held(NamedTuple):
    """What is known of a node: its state, seq and bucket; seq NEVER where nothing is held."""

    state: int
    seq: int
    bucket: int


NOTHING: Final = Held(GONE, NEVER, 0)


def schema_of(d: int) -> Any:
    """The collection's schema, for fingerprints of dimension d."""
    schema = AsyncMilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("node", DataType.VARCHAR, is_primary=True, max_length=2 * (MAX_NODE + 64))
    schema.add_field("state", DataType.INT8)
    schema.add_field("seq", DataType.INT64)
    schema.add_field("bucket", DataType.INT32)
    schema.add_field("action", DataType.VARCHAR, max_length=256)
    schema.add_field("revision", DataType.INT64)
    schema.add_field("packet", DataType.VARCHAR, max_length=_TEXT)
    schema.add_field(PLACE, DataType.FLOAT_VECTOR, dim=max(d, 2))
    return schema


def check_schema(description: Mapping[str, Any], d: int, where: str) -> None:
    """Raise ConfigError unless a collection is one of ours for this dimension."""
    fields = {each["name"]: each for each in description["fields"]}
    wanted = {"node", "state", "seq", "bucket", "action", "revision", "packet", PLACE}
    if set(fields) != wanted:
        raise ConfigError(f"{where}: the collection of this name is not Kindred's; choose another name in its address")
    width = int(fields[PLACE]["params"]["dim"])
    if width != max(d, 2):
        raise ConfigError(f"{where} keeps fingerprints of d={width}, the schema has d={d}; choose another name")


def padded(place: Fingerprint, d: int) -> Fingerprint:
    """A fingerprint as Milvus keeps it, of two axes at least; zeros for what has none."""
    axes: Fingerprint = np.zeros(max(d, 2), dtype=np.float32)
    axes[: len(place)] = place
    return axes


def key_of(node: bytes) -> str:
    """The primary key of a node's row."""
    return node.hex()


def node_of(key: str) -> bytes | None:
    """The node of a key; None for what is no node's."""
    try:
        return bytes.fromhex(key)
    except ValueError:
        return None


def action_key(action: str) -> str:
    """An action as it stands in a row and in a filter, whatever signs are in it."""
    return action.encode().hex()


def packet_row(
    node: bytes, held: Held, action: str | None, place: Fingerprint, packet: bytes, revision: int, d: int
) -> Row:
    """The row of a packet, or with state GONE of none."""
    return {
        "node": key_of(node),
        "state": held.state,
        "seq": held.seq - _SHIFT,
        "bucket": held.bucket,
        "action": action_key(action or ""),
        "revision": revision,
        "packet": base64.b64encode(packet).decode("ascii"),
        PLACE: padded(place, d),
    }


def held_of(row: Mapping[str, Any]) -> Held:
    """What a row says of its node."""
    if row["state"] not in (FOUND, WITHDRAWN):
        return NOTHING._replace(bucket=row["bucket"])
    return Held(row["state"], row["seq"] + _SHIFT, row["bucket"])


def packet_of(row: Mapping[str, Any]) -> bytes:
    """The packet's bytes, whatever they are."""
    try:
        return base64.b64decode(row["packet"], validate=True)
    except ValueError:
        return b""


def note_rows(name: str, value: bytes, d: int) -> list[Row]:
    """The rows of a note; its first tells how many there are."""
    parts = [value[start : start + _PART] for start in range(0, len(value), _PART)] or [b""]
    return [
        {
            "node": f"note/{name}/{number:04d}",
            "state": NOTE,
            "seq": len(parts),
            "bucket": 0,
            "action": f"note/{name}",
            "revision": 0,
            "packet": base64.b64encode(part).decode("ascii"),
            PLACE: padded(NO_FINGERPRINT, d),
        }
        for number, part in enumerate(parts)
    ]


def note_filter(name: str) -> str:
    """The filter that finds the rows of a note."""
    return f'state == {NOTE} and action == "note/{name}"'


def note_of(rows: Sequence[Mapping[str, Any]]) -> bytes | None:
    """A note from its rows; those of a longer one before it are left out."""
    ordered = sorted(rows, key=lambda row: str(row["node"]))
    if not ordered:
        return None
    return b"".join(packet_of(row) for row in ordered[: ordered[0]["seq"]])
