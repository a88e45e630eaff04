"""Everything that can go wrong, in one tree.

KindredError
├── InputError               400  what a caller sent cannot be used; names what, where, what would be right
│   ├── DocumentError        400  not well-formed JSON, CBOR or YAML, or of the wrong shape
│   ├── SchemaError          400  a domain's schema is not usable
│   ├── SituationError       400  a situation does not fit its schema
│   ├── FingerprintError     400  a fingerprint of the wrong length, type or space
│   ├── PacketError          400  a packet that breaks the format
│   ├── RegionError          400  impossible geometry
│   └── QuestionError        400  a question that cannot be asked
├── ConfigError              500  federation.yaml: file, line, path, what would be right
├── SignatureError           401  not signed by the key that it must be signed by
├── NotGranted               403  the operator has not granted this
├── UnknownName              404  no such domain, network, node or cell
├── Conflict                 409  digest or serial does not match what is held
├── TooLarge                 413  more than the stated limit
├── Moved                    421  what is asked for was handed over; who asks knows an older owner
├── StorageFull              507  the disk or the map is full; nothing was half-applied
├── Unavailable              503  a peer or a part of this process cannot serve now
│   └── LookupFailed         503  a DNS question got no usable answer
└── Corrupt                  500  what is stored does not decode
"""

from __future__ import annotations

from typing import Any, ClassVar


class KindredError(Exception):
    """Root of every error that Kindred raises on purpose.

    `detail` is a sentence for a person: what is wrong, where, and what would be right.
    `where` holds machine-readable places (path, line, ...) that go into the problem document.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "error"
    title: ClassVar[str] = "Error"

    def __init__(self, detail: str, **where: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.where = where

    def problem(self) -> dict[str, Any]:
        """The RFC 9457 problem document of this error."""
        return {
            "type": f"urn:kindred:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.where,
        }


class InputError(KindredError):
    status, code, title = 400, "input", "Unusable input"


class DocumentError(InputError):
    code, title = "document", "Malformed document"


class SchemaError(InputError):
    code, title = "schema", "Unusable schema"


class SituationError(InputError):
    code, title = "situation", "Situation does not fit the schema"


class FingerprintError(InputError):
    code, title = "fingerprint", "Unusable fingerprint"


class PacketError(InputError):
    code, title = "packet", "Unusable packet"


class RegionError(InputError):
    code, title = "region", "Impossible region"


class QuestionError(InputError):
    code, title = "question", "Unusable question"


class ConfigError(KindredError):
    code, title = "config", "Unusable configuration"


class SignatureError(KindredError):
    status, code, title = 401, "signature", "Signature does not verify"


class NotGranted(KindredError):
    status, code, title = 403, "not-granted", "Not granted"


class UnknownName(KindredError):
    status, code, title = 404, "unknown", "Unknown name"


class Conflict(KindredError):
    status, code, title = 409, "conflict", "Conflict"


class TooLarge(KindredError):
    status, code, title = 413, "too-large", "Too large"


class Moved(KindredError):
    status, code, title = 421, "moved", "Moved"


class StorageFull(KindredError):
    status, code, title = 507, "storage-full", "Storage full"


class Unavailable(KindredError):
    status, code, title = 503, "unavailable", "Unavailable"


class LookupFailed(Unavailable):
    code, title = "lookup", "Lookup failed"


class Corrupt(KindredError):
    code, title = "corrupt", "Stored data does not decode"
