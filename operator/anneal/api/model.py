"""The base of every API model, and the few marks that the CRD generator reads.

Kubernetes speaks camelCase and prunes unknown fields on the server, so models read camelCase and ignore what they
do not know: an object written by a newer operator must still be readable by an older one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


@dataclass(frozen=True)
class Rule:
    """What must hold between the members of a model, said twice: for the API server in CEL, and for pydantic."""

    cel: str
    """True where it holds; `self` is the object as it was written, so ask `has(self.member)` first."""
    holds: Callable[[Any], bool]
    """The same of a model, whose absent members have their defaults."""
    message: str
    """What is wrong where it does not hold."""


class ApiModel(BaseModel):
    """A frozen piece of the API, read and written in camelCase."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True, use_enum_values=True
    )

    #: Optional members of which exactly one is set: the variants of a one-of, by their camelCase names. Enforced here
    #: and, as a CEL rule, by the API server. A further variant is a further member and a further name.
    ONE_OF: ClassVar[tuple[str, ...]] = ()
    #: Further rules between members, enforced here and by the API server.
    RULES: ClassVar[tuple[Rule, ...]] = ()

    def to_json(self) -> dict[str, Any]:
        """The object as the API server would store it: camelCase, absent instead of null."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if not self.ONE_OF:
            return self
        aliases = {field.alias or name: name for name, field in type(self).model_fields.items()}
        if sum(getattr(self, aliases[m]) is not None for m in self.ONE_OF) != 1:
            raise ValueError(f"exactly one of {', '.join(self.ONE_OF)} must be set")
        return self

    @model_validator(mode="after")
    def _rules(self) -> Self:
        for rule in self.RULES:
            if not rule.holds(self):
                raise ValueError(rule.message)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core_schema))
        rules = [_exactly_one_of(*cls.ONE_OF)] if cls.ONE_OF else []
        rules += [cel(rule.cel, rule.message) for rule in cls.RULES]
        if rules:
            schema["x-kubernetes-validations"] = rules
        return schema


def cel(rule: str, message: str) -> dict[str, str]:
    """One `x-kubernetes-validations` entry: the API server refuses with `message` where `rule` is false."""
    return {"rule": rule, "message": message}


def _exactly_one_of(*members: str) -> dict[str, str]:
    count = " + ".join(f"(has(self.{m}) ? 1 : 0)" for m in members)
    return cel(f"({count}) == 1", f"exactly one of {', '.join(members)} must be set")


def immutable_after_start(*fields: str) -> list[dict[str, str]]:
    """CEL at the root of a kind: `spec.<field>` is frozen once `status.startTime` is set, by field, with advice."""
    return [
        cel(
            f"!has(oldSelf.status) || !has(oldSelf.status.startTime) || (has(self.spec.{f}) == has(oldSelf.spec.{f})"
            f" && (!has(self.spec.{f}) || self.spec.{f} == oldSelf.spec.{f}))",
            f"spec.{f} cannot be changed once the object has started (status.startTime is set);"
            " create a new object with another name",
        )
        for f in fields
    ]


#: Mark on a field whose default the API server itself writes. Only what other clients must see (for example
#: `replicas`, read by `kubectl scale`) is defaulted on the server: anything else would rewrite the user's object.
SERVER_DEFAULT: dict[str, JsonValue] = {"x-anneal-server-default": True}


def _matching(pattern: str, max_length: int, message: str) -> Any:
    """A string that matches `pattern`, refused with `message` by pydantic and (through CEL) by the API server."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(message)
        return value

    rule = cel(f"self.matches('^{pattern}$')".replace("\\", "\\\\"), message)
    return Annotated[
        str,
        AfterValidator(check),
        Field(max_length=max_length, json_schema_extra={"x-kubernetes-validations": [dict(rule)]}),
    ]


#: A decimal number as a string, since floats are not portable in Kubernetes objects. "2e-4", "0.05", "1".
Decimal = _matching(
    r"[0-9]{1,12}(\.[0-9]{1,12})?([eE]-?[0-9]{1,2})?",
    32,
    'must be a decimal number in quotes, such as "2e-4" or "0.05"',
)
#: A Kubernetes quantity: "2", "500m", "6Gi".
Quantity = _matching(
    r"[0-9]{1,15}(\.[0-9]{1,6})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?", 32, 'must be a quantity, such as "2", "500m" or "6Gi"'
)
#: The name of another object in the same namespace.
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=253)]
#: The name of a metric, a baseline or another entry of a list in the same object.
EntryName = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=40)]
#: A sha256 digest as in container images.
Digest = Annotated[str, Field(pattern=r"^sha256:[a-f0-9]{64}$", max_length=71)]
#: RFC 3339, as in all of Kubernetes.
Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"}, max_length=40)]
#: A sentence for people. Bounded so that no pod can fill etcd.
Sentence = Annotated[str, Field(max_length=1024)]
