"""A domain's schema: what experts say makes two situations alike, what can be done, and what may come of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from registry.errors import ConfigError, SchemaError
from registry.jsontext import digest
from registry.likeness.columns import OutcomeColumns, Seconds, Table
from registry.likeness.feature import Feature
from registry.likeness.kind import Part, Range, Text
from registry.likeness.kinds import AnyKind
from registry.yamltext import Path_, YamlText, nearest, read_yaml, validate

MAX_DIMENSION = 128
MAX_INTERVALS = 6  # of a duration, in which survival is counted where persons are told in aggregates
MAX_ADJUSTED = 8  # axes of the features that are adjusted for
SPACE_VERSION = 1
MIN_AGGREGATED = 5  # persons; sums over fewer tell of each
USUAL_COHORT = 11  # in a published sum, where the schema does not say

UNIT_SECONDS: Mapping[str, float] = {
    "seconds": 1.0,
    "minutes": 60.0,
    "hours": 3600.0,
    "days": 86_400.0,
    "weeks": 604_800.0,
    "years": 31_557_600.0,  # of 365.25 days
}

_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
_Action = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9+_.-]{0,47}$")]


OutcomeKind = Literal["binary", "number", "duration", "ordinal"]


class _OutcomePart(Part):
    kind: OutcomeKind
    label: Text
    unit: Text | None = None
    better: Literal["higher", "lower"] | None = None
    horizon: Annotated[Seconds | None, Field()] = None
    range: Range | None = None
    levels: Annotated[list[Text] | None, Field(min_length=2, max_length=32)] = None
    entry: Text | None = None
    intervals: Annotated[list[Annotated[Seconds, Field()]] | None, Field(min_length=1, max_length=MAX_INTERVALS)] = None


class _SchemaPart(Part):
    title: Text
    notice: str = ""
    source: Text | None = None
    study: Literal["observational", "randomised"]
    release: Literal["packets", "aggregates"] = "aggregates"  # who forgets to say it gives nobody away
    min_cohort: Annotated[int | None, Field(ge=1, le=10_000)] = None
    bandwidth_floor: Annotated[float, Field(gt=0, le=1000)]
    actions: Annotated[dict[_Action, Text], Field(max_length=64, default_factory=dict)]
    features: Annotated[dict[_Name, AnyKind], Field(min_length=1, max_length=200)]
    adjust_for: Annotated[list[Text], Field(max_length=MAX_ADJUSTED, default_factory=list)]
    outcomes: Annotated[dict[_Name, _OutcomePart], Field(min_length=1, max_length=16)]
    table: Table | None = None

    @property
    def least(self) -> int:
        """min_cohort, or what it is where the schema does not say."""
        return self.min_cohort or (1 if self.release == "packets" else USUAL_COHORT)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What may come of an action.

    unit: of a number or a duration. horizon_s: when after the action it is known; a binary outcome whose horizon has
    not passed is unknown, not 0. better: which direction is, None where that is nobody's to say. range: of a number.
    levels: of an ordinal, the lowest first; its values are their places, from 0 on. entry: of a duration, the outcome
    (a number in the same unit) that says when the node came under observation: before, nobody saw its event. intervals:
    of a duration, the ends, in its unit and ascending, of those in which it is counted where aggregates are released.
    """

    name: str
    kind: OutcomeKind
    label: str
    unit: str | None
    better: Literal["higher", "lower"] | None
    horizon_s: float | None
    range: tuple[float, float] | None
    levels: tuple[str, ...] = ()
    entry: str | None = None
    intervals: tuple[float, ...] = ()

    @property
    def unit_s(self) -> float:
        """Seconds of a duration's unit."""
        return UNIT_SECONDS[self.unit or "seconds"]


@dataclass(frozen=True, slots=True, eq=False)
class Schema:
    """One domain's schema. space and digest: 32 bytes each; equal in every member of the domain, or refused.

    space: SHA-256 over the canonical JSON of all that encodes. digest: over the whole document but `table`.
    adjust_for: names of features, and adjusted: (p,) their axes in the fingerprint, p <= 8.
    after_action: features that are known only after the action, name -> label; refused in a situation.
    document: the schema as plain JSON, for those who fetch it.
    """

    title: str
    notice: str
    source: str | None
    study: Literal["observational", "randomised"]
    release: Literal["packets", "aggregates"]
    min_cohort: int
    features: tuple[Feature, ...]
    adjust_for: tuple[str, ...]
    adjusted: tuple[int, ...]
    after_action: Mapping[str, str]
    actions: tuple[str, ...]
    action_labels: Mapping[str, str]
    outcomes: Mapping[str, Outcome]
    bandwidth_floor: float
    dimension: int
    space: bytes
    digest: bytes
    table: Table | None
    document: Mapping[str, Any]

    @classmethod
    def from_yaml(cls, path: Path) -> Schema:
        """Read a schema file. Raises SchemaError with every problem: file, line, path, what would be right."""
        try:
            text = read_yaml(path)
        except ConfigError as error:
            raise SchemaError(error.detail, **error.where) from None
        return cls._from_text(text)

    @classmethod
    def from_document(cls, document: object, name: str) -> Schema:
        """A schema from its plain JSON; `name` says in errors where that came from. Raises SchemaError."""
        return cls._from_text(YamlText(name, document, {}))

    @classmethod
    def _from_text(cls, text: YamlText) -> Schema:
        part = validate(_SchemaPart, text, SchemaError, _problems)
        features = tuple(Feature(name, kind) for name, kind in part.features.items() if kind.before_action)
        space = {"v": SPACE_VERSION, "features": [feature.definition() for feature in features]}
        return cls(
            title=part.title,
            notice=part.notice.strip(),
            source=part.source,
            study=part.study,
            release=part.release,
            min_cohort=part.least,
            features=features,
            adjust_for=tuple(part.adjust_for),
            adjusted=_axes(features, part.adjust_for),
            after_action={name: kind.label for name, kind in part.features.items() if not kind.before_action},
            actions=tuple(part.actions),
            action_labels=dict(part.actions),
            outcomes={
                name: Outcome(
                    name,
                    each.kind,
                    each.label,
                    each.unit,
                    each.better,
                    each.horizon,
                    each.range if each.levels is None else (0.0, len(each.levels) - 1.0),
                    tuple(each.levels or ()),
                    each.entry,
                    tuple(end / UNIT_SECONDS.get(each.unit or "", 1.0) for end in each.intervals or ()),
                )
                for name, each in part.outcomes.items()
            },
            bandwidth_floor=part.bandwidth_floor,
            dimension=sum(feature.dimension for feature in features),
            space=digest(space),
            digest=digest({name: value for name, value in text.data.items() if name != "table"}),
            table=part.table,
            document=text.data,
        )


def _problems(part: _SchemaPart) -> Iterator[tuple[Path_, str]]:
    """What is wrong between the parts."""
    if part.release == "aggregates" and part.least < MIN_AGGREGATED:
        yield ("min_cohort",), f"where aggregates are released it is {MIN_AGGREGATED} at least; medicine takes 11"
    dimension = 0
    for name, kind in part.features.items():
        if not kind.before_action:
            continue
        try:
            dimension += Feature(name, kind).dimension
        except ValueError as error:
            yield ("features", name), str(error)
    if not any(kind.before_action for kind in part.features.values()):
        yield ("features",), "every feature is after the action; at least one must come before it"
    if dimension > MAX_DIMENSION:
        yield ("features",), f"{dimension} dimensions, at most {MAX_DIMENSION}; group the values of large categories"
    yield from _adjustment_problems(part)
    yield from _outcome_problems(part)
    if part.table is not None:
        yield from _table_problems(part, part.table)


def _outcome_problems(part: _SchemaPart) -> Iterator[tuple[Path_, str]]:
    for name, outcome in part.outcomes.items():
        if outcome.kind == "duration" and outcome.unit not in UNIT_SECONDS:
            yield ("outcomes", name), f"a duration's unit is one of {', '.join(UNIT_SECONDS)}"
        if outcome.kind == "number" and outcome.unit is None:
            yield ("outcomes", name), "a number needs a unit"
        if outcome.range is not None and (outcome.kind != "number" or outcome.range[0] >= outcome.range[1]):
            yield ("outcomes", name, "range"), "only a number has a range, its lower end first"
        if (outcome.levels is not None) != (outcome.kind == "ordinal"):
            yield ("outcomes", name, "levels"), "an ordinal has `levels`, the lowest first, and nothing else has"
        if outcome.levels is not None and len(set(outcome.levels)) != len(outcome.levels):
            yield ("outcomes", name, "levels"), "every level is named once"
        ends = outcome.intervals or []
        if (ends and outcome.kind != "duration") or sorted({end for end in ends if end > 0}) != ends:
            yield ("outcomes", name, "intervals"), "only a duration has intervals; their ends ascend, from above 0"
        if outcome.entry is not None:
            entry = part.outcomes.get(outcome.entry)
            if outcome.kind != "duration" or entry is None or entry.kind != "number" or entry.unit != outcome.unit:
                yield ("outcomes", name, "entry"), "a duration's entry is another outcome, a number in the same unit"


def _axes(features: Sequence[Feature], names: Sequence[str]) -> tuple[int, ...]:
    """Where the axes of these features stand in the fingerprint."""
    starts = dict(zip((feature.name for feature in features), _starts(features), strict=True))
    chosen = [feature for name in names for feature in features if feature.name == name]
    return tuple(starts[feature.name] + axis for feature in chosen for axis in range(feature.dimension))


def _starts(features: Sequence[Feature]) -> Iterator[int]:
    start = 0
    for feature in features:
        yield start
        start += feature.dimension


def _adjustment_problems(part: _SchemaPart) -> Iterator[tuple[Path_, str]]:
    before = [name for name, kind in part.features.items() if kind.before_action]
    if len(set(part.adjust_for)) != len(part.adjust_for):
        yield ("adjust_for",), "every feature is named once"
    for name in part.adjust_for:
        if name not in before:
            yield ("adjust_for",), f"{name!r} is no feature from before the action; {nearest(name, before)}"
    try:
        chosen = [Feature(name, part.features[name]) for name in part.adjust_for if name in before]
    except ValueError:  # told of the feature itself
        return
    axes = sum(feature.dimension for feature in chosen)
    if axes > MAX_ADJUSTED:
        yield ("adjust_for",), f"{axes} axes of the fingerprint, at most {MAX_ADJUSTED}; name fewer features"


def _table_problems(part: _SchemaPart, table: Table) -> Iterator[tuple[Path_, str]]:
    before = [name for name, kind in part.features.items() if kind.before_action]
    for name in table.features:
        if name not in before:
            late = "it is after the action, and no part of a situation" if name in part.features else ""
            yield ("table", "features", name), late or f"no such feature; {nearest(name, before)}"
    for name in before:
        if name not in table.features and part.features[name].missing is None:
            yield ("table", "features"), f"{name} must be given, as it has no rule for `missing`; name its column"
    for name, columns in table.outcomes.items():
        if name not in part.outcomes:
            yield ("table", "outcomes", name), f"no such outcome; {nearest(name, part.outcomes)}"
        elif problem := _columns_problem(part.outcomes[name], columns):
            yield ("table", "outcomes", name), problem
    if bool(part.actions) != (table.action is not None):
        yield ("table",), "`action`, the column that says which was taken, stands here if the schema has `actions`"
    if table.action is not None:
        for action in [*table.action.map.values(), *table.action.words]:
            if action not in part.actions:
                yield ("table", "action"), f"{action!r} is no action; {nearest(str(action), part.actions)}"


def _columns_problem(outcome: _OutcomePart, columns: OutcomeColumns) -> str | None:
    if outcome.kind == "duration" and columns.duration is None:
        return "a duration needs the columns `duration` and `event`"
    if outcome.kind in ("number", "ordinal") and columns.column is None:
        return f"{'a number' if outcome.kind == 'number' else 'an ordinal'} needs one `column`"
    if (
        outcome.kind == "binary"
        and columns.duration is not None
        and (outcome.horizon is None or outcome.unit not in UNIT_SECONDS)
    ):
        return "a binary outcome from `duration` needs a `horizon`, and the duration's unit as `unit`"
    return None
