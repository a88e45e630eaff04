"""Coverage: what a network says it holds, signed, with a serial and a lease.

The document (PROTOCOL, "Coverage") is canonical JSON signed with the network's Ed25519 key. A renewal of the
lease is a small signed document of its own, so that nobody can prolong a coverage by replaying it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from registry.errors import DocumentError
from registry.geometry.region import Region
from registry.keys import SigningKey, sign_document

VERSION = 1
MAX_REGIONS = 4096
MAX_COVERAGE_BYTES = 16 * 1024 * 1024
MAX_LEASE_S = 86_400.0

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
DomainName = Annotated[
    str,
    Field(max_length=120, pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$"),
]
ApexName = Annotated[
    str, Field(max_length=254, pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+$")
]  # absolute, with its final dot
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


_Model = TypeVar("_Model", bound=_Document)


class _RegionDocument(_Document):
    id: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^~]")]  # the registry's own begin with ~
    counts: dict[Annotated[str, Field(max_length=64)], Annotated[int, Field(ge=1, le=2**40)]]
    centre: list[Finite]
    radius: Finite
    lo: list[Finite]
    hi: list[Finite]
    var: list[Finite]
    spread: Finite = 0.0


class _CoverageDocument(_Document):
    v: Annotated[int, Field(ge=1, le=1)]
    domain: DomainName
    network: Name
    space: Digest
    schema_: Annotated[Digest, Field(alias="schema")]
    serial: Annotated[int, Field(ge=1, le=2**53 - 1)]
    issued: Annotated[Finite, Field(ge=0)]
    lease_s: Annotated[Finite, Field(gt=0, le=MAX_LEASE_S)]
    packets: Annotated[int, Field(ge=0)]
    uncovered: Annotated[int, Field(ge=0)]
    regions: Annotated[list[_RegionDocument], Field(max_length=MAX_REGIONS)]
    apex: ApexName | None = None
    signer: str
    sig: str


class _RenewalDocument(_Document):
    v: Annotated[int, Field(ge=1, le=1)]
    domain: DomainName
    network: Name
    serial: Annotated[int, Field(ge=1, le=2**53 - 1)]
    issued: Annotated[Finite, Field(ge=0)]
    lease_s: Annotated[Finite, Field(gt=0, le=MAX_LEASE_S)]
    signer: str
    sig: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """A network's regions. space and schema are hex digests; issued is seconds since the epoch.

    apex: where the regions sum up what another registry serves, the apex of its domain.
    """

    domain: str
    network: str
    space: str
    schema: str
    serial: int
    issued: float
    lease_s: float
    packets: int
    uncovered: int
    regions: tuple[Region, ...]
    apex: str | None = None

    def document(self, key: SigningKey) -> dict[str, Any]:
        """The signed JSON document."""
        return sign_document(
            {
                "v": VERSION,
                "domain": self.domain,
                "network": self.network,
                "space": self.space,
                "schema": self.schema,
                "serial": self.serial,
                "issued": self.issued,
                "lease_s": self.lease_s,
                "packets": self.packets,
                "uncovered": self.uncovered,
                "regions": [
                    {
                        "id": region.id,
                        "counts": dict(region.counts),
                        "centre": region.centre.tolist(),
                        "radius": region.radius,
                        "lo": region.lo.tolist(),
                        "hi": region.hi.tolist(),
                        "var": region.var.tolist(),
                        "spread": region.spread,
                    }
                    for region in self.regions
                ],
                **({} if self.apex is None else {"apex": self.apex}),
            },
            key,
        )

    def with_actions(self, actions: Sequence[str]) -> Coverage:
        """The same, where packets of any other action count as packets without one; itself where there are none."""
        known = {"", *actions}
        if all(region.counts.keys() <= known for region in self.regions):
            return self
        regions = []
        for region in self.regions:
            counts: dict[str, int] = {}
            for action, n in region.counts.items():
                kept = action if action in known else ""
                counts[kept] = counts.get(kept, 0) + n
            regions.append(replace(region, counts=counts))
        return replace(self, regions=tuple(regions))

    @classmethod
    def from_document(cls, document: object, d: int) -> Coverage:
        """Check shape and geometry (dimension `d`); the signature is the caller's to verify.

        Raises DocumentError naming the path, RegionError naming the region.
        """
        parsed = _parse(_CoverageDocument, document, "coverage")
        regions = tuple(
            Region(
                id=region.id,
                counts=dict(region.counts),
                centre=np.array(region.centre, dtype=np.float64),
                radius=region.radius,
                lo=np.array(region.lo, dtype=np.float64),
                hi=np.array(region.hi, dtype=np.float64),
                var=np.array(region.var, dtype=np.float64),
                spread=region.spread,
            )
            for region in parsed.regions
        )
        for region in regions:
            region.check(d)
        if len({region.id for region in regions}) != len(regions):
            raise DocumentError("coverage: two regions have the same id", path="regions")
        return cls(
            domain=parsed.domain,
            network=parsed.network,
            space=parsed.space,
            schema=parsed.schema_,
            serial=parsed.serial,
            issued=parsed.issued,
            lease_s=parsed.lease_s,
            packets=parsed.packets,
            uncovered=parsed.uncovered,
            regions=regions,
            apex=parsed.apex,
        )


@dataclass(frozen=True, slots=True)
class Renewal:
    """The lease of the coverage with this serial runs on from `issued`, which only grows."""

    domain: str
    network: str
    serial: int
    issued: float
    lease_s: float

    def document(self, key: SigningKey) -> dict[str, Any]:
        """The signed JSON document."""
        return sign_document(
            {
                "v": VERSION,
                "domain": self.domain,
                "network": self.network,
                "serial": self.serial,
                "issued": self.issued,
                "lease_s": self.lease_s,
            },
            key,
        )

    @classmethod
    def from_document(cls, document: object) -> Renewal:
        """Check the shape; the signature is the caller's to verify. Raises DocumentError."""
        parsed = _parse(_RenewalDocument, document, "renewal")
        return cls(parsed.domain, parsed.network, parsed.serial, parsed.issued, parsed.lease_s)


def _parse(model: type[_Model], document: object, what: str) -> _Model:
    if not isinstance(document, Mapping):
        raise DocumentError(f"{what}: an object is wanted, found {type(document).__name__}")
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(map(str, first["loc"]))
        raise DocumentError(f"{what}: {path}: {first['msg']}", path=path) from None
