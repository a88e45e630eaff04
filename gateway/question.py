"""The question as it arrives, checked; and what it becomes once the schema has had its say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from registry.errors import QuestionError

MAX_K = 10_000
MIN_DEADLINE_MS, MAX_DEADLINE_MS = 1, 60_000


class Recall(BaseModel):
    """Stop when the expected share of the missing neighbours falls below 1 - recall."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    recall: Annotated[float, Field(gt=0, lt=1)]


class Budget(BaseModel):
    """Ask at most this many networks, the most promising."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    budget: Annotated[int, Field(ge=1, le=1_000_000)]


Mode = Literal["exact"] | Recall | Budget


def mode_document(mode: Mode) -> object:
    """As it stands in questions and answers."""
    return mode if mode == "exact" else mode.model_dump()


class Question(BaseModel):
    """PROTOCOL, "Ask". Either a situation, or a fingerprint with the digest of its space (hex)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    domain: Annotated[str, Field(min_length=1, max_length=120)]
    situation: dict[str, Any] | None = None
    fingerprint: list[float] | str | None = None
    space: str | None = None
    k: Annotated[int, Field(ge=1, le=MAX_K)] = 50
    per: Literal["action", "all"] = "action"
    mode: Mode = "exact"
    deadline_ms: Annotated[int, Field(ge=MIN_DEADLINE_MS, le=MAX_DEADLINE_MS)] | None = None
    outcomes: list[str] | None = None
    actions: list[str] | None = None
    purpose: Annotated[str, Field(max_length=200)] | None = None
    neighbours: bool = True
    corroborate: bool = False

    @field_validator("mode", mode="before")
    @classmethod
    def _known_mode(cls, value: object) -> object:
        if value == "exact" or isinstance(value, Recall | Budget):
            return value
        for kind in (Recall, Budget):
            try:
                return kind.model_validate(value)
            except ValidationError:
                continue
        raise ValueError(
            'give "exact", or {"recall": x} with x above 0 and below 1, or {"budget": n} with n a whole number,'
            " at least 1; for all neighbours or all networks, exact is right"
        )

    @model_validator(mode="after")
    def _one_address(self) -> Question:
        if (self.situation is None) == (self.fingerprint is None):
            raise ValueError("give either a situation or a fingerprint (with its space)")
        if self.fingerprint is not None and self.space is None:
            raise ValueError("a fingerprint comes with the digest of its space")
        return self

    @classmethod
    def from_document(cls, document: object) -> Question:
        """Raises QuestionError naming each wrong member and what would be right."""
        if not isinstance(document, Mapping):
            raise QuestionError(f"a question is a JSON object, found {type(document).__name__}")
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            problems = [
                {
                    "path": ".".join(map(str, each["loc"])) or "question",
                    "reason": each["msg"].removeprefix("Value error, "),
                }
                for each in error.errors(include_url=False, include_input=False, include_context=False)
            ]
            sentence = "; ".join(f"{each['path']}: {each['reason']}" for each in problems)
            raise QuestionError(sentence, problems=problems) from None
