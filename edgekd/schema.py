"""Turn pydantic's errors about a user's file into one sentence that says which key is wrong and what would be right."""

from __future__ import annotations

from typing import get_args

from pydantic import BaseModel, ValidationError

from edgekd.errors import unknown

# What pydantic says in words of Python, by the kind of the error.
_WORDS = {
    "model_type": "this is a section: name a key of it",
    "tuple_type": "Input should be a list, such as [1, 5]",
    "too_short": "Input should be a longer list",
    "too_long": "Input should be a shorter list",
}


def explain(model: type[BaseModel], error: ValidationError, what: str) -> str:
    """Return `what: ...` with one clause for each problem; an unknown key gets the nearest legal one."""
    return f"{what}: " + "; ".join(
        _clause(model, problem["loc"], problem["type"], problem["msg"]) for problem in error.errors()
    )


def _clause(model: type[BaseModel], where: tuple[int | str, ...], kind: str, message: str) -> str:
    path = ".".join(str(part) for part in where)
    message = _WORDS.get(kind, message.removeprefix("Value error, "))
    if kind != "extra_forbidden":
        return f"{path}: {message}" if path else message
    *parents, key = where
    owner = _descend(model, parents)
    place = ".".join(str(part) for part in parents)
    return unknown(f"key{f' in [{place}]' if place else ''}", str(key), owner.model_fields)


def _descend(model: type[BaseModel], path: list[int | str]) -> type[BaseModel]:
    """Follow `path` through nested models; list positions stay on the list's item model."""
    for part in path:
        field = model.model_fields.get(str(part))
        nested = nested_model(field.annotation) if field else None
        model = nested or model
    return model


def nested_model(annotation: object) -> type[BaseModel] | None:
    """Return the model that an annotation holds, through optionals and lists; None where it holds none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for found in map(nested_model, get_args(annotation)) if found), None)
