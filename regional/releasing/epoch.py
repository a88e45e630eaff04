"""The index of an epoch: which pages are a network's, all of them and no others, signed.

A reader takes pages by the digests of one index only, so that no two epochs are mixed: persons of an atom that was
withdrawn in one may be in another atom of the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from registry.errors import DocumentError
from registry.keys import SigningKey, sign_document
from registry.publishing.coverage import Digest, DomainName, Finite, Name

VERSION: Final = 1
MAX_INDEX: Final = 4 * 1024 * 1024  # octets
MAX_PAGES: Final = 4096
_Count = Annotated[int, Field(ge=0, le=2**40)]
_Label = Annotated[str, Field(pattern=r"^[a-z][a-z-]{0,39}$")]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _PageDocument(_Document):
    digest: Digest
    octets: Annotated[int, Field(ge=1, le=2**31)]
    atoms: Annotated[int, Field(ge=1, le=2**20)]
    counts: dict[Annotated[str, Field(max_length=64)], Annotated[int, Field(ge=1, le=2**40)]]


class _TableDocument(_Document):
    digest: Digest
    octets: Annotated[int, Field(ge=0, le=2**31)]


class _IndexDocument(_Document):
    v: Annotated[int, Field(ge=1, le=1)]
    domain: DomainName
    network: Name
    space: Digest
    schema_: Annotated[Digest, Field(alias="schema")]
    epoch: _Count
    serial: _Count
    issued: Annotated[Finite, Field(ge=0)]
    min_cohort: Annotated[int, Field(ge=1, le=10_000)]
    step: Annotated[Finite, Field(gt=0)]
    pages: Annotated[list[_PageDocument], Field(max_length=MAX_PAGES)]
    tables: Annotated[dict[_Label, _TableDocument], Field(max_length=16)]
    signer: str
    sig: str


@dataclass(frozen=True, slots=True)
class PageEntry:
    """One page: its digest, its length, how many atoms it has, and how many persons by action."""

    digest: str
    octets: int
    atoms: int
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TableEntry:
    """One table that goes with the epoch: its digest and its length."""

    digest: str
    octets: int


@dataclass(frozen=True, slots=True, eq=False)
class EpochIndex:
    """space, schema: digests in hexadecimal digits. epoch: counts the network's publications.

    serial: of the coverage that was made from this epoch; a network's coverage with this serial or a lower one speaks
    of this epoch or an earlier one. step: edge of the public grid. tables: by name.
    """

    domain: str
    network: str
    space: str
    schema: str
    epoch: int
    serial: int
    issued: float
    min_cohort: int
    step: float
    pages: tuple[PageEntry, ...]
    tables: Mapping[str, TableEntry]

    @property
    def octets(self) -> int:
        """Of all its pages."""
        return sum(page.octets for page in self.pages)

    @property
    def persons(self) -> int:
        """In all its atoms."""
        return sum(sum(page.counts.values()) for page in self.pages)

    def document(self, key: SigningKey) -> dict[str, Any]:
        """The signed JSON document."""
        pages = [
            {"digest": page.digest, "octets": page.octets, "atoms": page.atoms, "counts": dict(page.counts)}
            for page in self.pages
        ]
        tables = {name: {"digest": each.digest, "octets": each.octets} for name, each in sorted(self.tables.items())}
        return sign_document(
            {
                "v": VERSION,
                "domain": self.domain,
                "network": self.network,
                "space": self.space,
                "schema": self.schema,
                "epoch": self.epoch,
                "serial": self.serial,
                "issued": self.issued,
                "min_cohort": self.min_cohort,
                "step": self.step,
                "pages": pages,
                "tables": tables,
            },
            key,
        )

    @classmethod
    def from_document(cls, document: object) -> EpochIndex:
        """Check the shape; the signature is the caller's to verify. Raises DocumentError naming the path."""
        try:
            parsed = _IndexDocument.model_validate(document)
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join(str(part) for part in first["loc"])
            raise DocumentError(f"index: {path}: {first['msg']}"[:300], path=path) from None
        if len({page.digest for page in parsed.pages}) != len(parsed.pages):
            raise DocumentError("index: pages: a page stands twice", path="pages")
        return cls(
            domain=parsed.domain,
            network=parsed.network,
            space=parsed.space,
            schema=parsed.schema_,
            epoch=parsed.epoch,
            serial=parsed.serial,
            issued=parsed.issued,
            min_cohort=parsed.min_cohort,
            step=parsed.step,
            pages=tuple(PageEntry(each.digest, each.octets, each.atoms, dict(each.counts)) for each in parsed.pages),
            tables={name: TableEntry(each.digest, each.octets) for name, each in parsed.tables.items()},
        )
