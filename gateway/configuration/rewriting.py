"""One line of `federation.yaml` changed, everything else as it was: comments, order, spaces."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gateway.configuration.config import FederationConfig
from registry.errors import ConfigError


def rewrite_engine(file: Path, network: str, engine: Mapping[str, Any]) -> None:
    """Say in `file` that the network's engine is this one now: {at, user, password, ca}.

    Written beside and renamed, so that no half is ever read. Raises ConfigError where that cannot be said in one place,
    or the file would not mean the same otherwise; then it stays as it was.
    """
    text = file.read_text("utf-8")
    changed = _changed(text, file, network, _written(engine))
    beside = file.with_name(f".{file.name}.new")
    beside.write_text(changed, "utf-8")
    try:
        before, after = FederationConfig.from_yaml(file), FederationConfig.from_yaml(beside)
        same = {**after.networks, network: before.networks[network]} == dict(before.networks)
        if not same or after.networks[network].engine.model_dump(mode="json", exclude_none=True) != dict(engine):
            raise ConfigError(f"{file}: the engine of {network} could not be changed alone; change it by hand")
        beside.chmod(file.stat().st_mode)
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def stands_alone(config: FederationConfig, network: str) -> bool:
    """Whether the network has an entry of its own, in which its engine can be changed."""
    return network in yaml.safe_load(Path(config.file).read_text("utf-8"))["networks"]


def _written(engine: Mapping[str, Any]) -> str:
    """As YAML in one line: JSON is YAML, and a plain address needs quotes no more than `embedded` does."""
    if set(engine) == {"at"}:
        at = str(engine["at"])
        return at if re.fullmatch(r"[a-z]+(://[A-Za-z0-9.,:/_-]+[A-Za-z0-9_-])?", at) else json.dumps(at)
    return json.dumps(dict(engine))


def _changed(text: str, file: Path, network: str, engine: str) -> str:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    entry = _value(_value(root, "networks"), network)
    if not isinstance(entry, yaml.MappingNode):
        raise ConfigError(
            f"{file}: {network} has no entry of its own under `networks`, but one that stands for several; "
            f"give it one, with `engine: {engine}`"
        )
    old = _value(entry, "engine")
    if old is not None:
        start, end = old.start_mark.index, old.end_mark.index
        kept = text[start:end].rstrip()  # a block ends where the next key begins
        return text[:start] + engine + text[start + len(kept) :]
    if entry.flow_style:
        at = entry.end_mark.index - 1
        return text[:at].rstrip() + f", engine: {engine}" + text[at:]
    first = entry.value[0][0].start_mark
    return text[: first.index] + f"engine: {engine}\n{' ' * first.column}" + text[first.index :]


def _value(node: Any, key: str) -> Any:
    """The value of a key in a mapping of YAML nodes; None where there is none."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)
