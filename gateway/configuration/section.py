"""What the sections of `federation.yaml` are made of."""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from registry.units import duration

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def _whole_seconds(text: object) -> int:
    seconds = duration(text)
    if not math.isfinite(seconds) or abs(seconds - round(seconds)) > 1e-6:
        raise ValueError(f"{text!r} is not whole seconds, which a time to live in DNS is; 1s at least")
    return round(seconds)


Seconds = Annotated[float, BeforeValidator(duration), Field(gt=0)]
Ttl = Annotated[int, BeforeValidator(_whole_seconds), Field(ge=1, le=2**31 - 1)]  # RFC 2181 section 8
PublicKey = Annotated[str, Field(pattern=r"^ed25519:[A-Za-z0-9+/]{43}=$")]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Address(Section):
    """`host:port`, as in 127.0.0.1:5300 or [::1]:5300; port 0 = any free one."""

    host: str
    port: Annotated[int, Field(ge=0, le=65535)]

    @model_validator(mode="before")
    @classmethod
    def _split(cls, text: object) -> object:
        if not isinstance(text, str):
            return text
        host, separator, port = text.rpartition(":")
        if not separator or not host or not port.isdecimal():
            raise ValueError(f"{text!r} is not host:port, as in 127.0.0.1:5300")
        return {"host": host.strip("[]"), "port": int(port)}

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def _absolute(name: object) -> object:
    labels = name.removesuffix(".").split(".") if isinstance(name, str) else []
    if not isinstance(name, str) or not name.endswith(".") or not all(NAME.fullmatch(label) for label in labels):
        raise ValueError(f"{name!r} is not an absolute lower-case DNS name with its final dot")
    return name


Origin = Annotated[str, BeforeValidator(_absolute)]
