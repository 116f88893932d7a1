"""Weighted sums of terms, written as text: "ce + 0.3 kd + 0.5 calibrated_mse"."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgekd.distill.methods.base import METHODS, Dims, Method, Outputs
from edgekd.errors import RecipeError, unknown

TERM = re.compile(r"(?:(?P<weight>\d+\.?\d*|\.\d+)\s*\*?\s*)?(?P<name>[A-Za-z_]\w*)")
EXAMPLE = "for example 'ce + 0.3 kd'"


@dataclass(frozen=True)
class Term:
    """One summand of an expression."""

    weight: float
    name: str


class WeightedMethods(nn.Module):
    """The sum of weight * term; their parameters belong into the student's optimizer."""

    def __init__(self, terms: Sequence[Term], methods: Sequence[Method]) -> None:
        super().__init__()
        self.weights = {term.name: term.weight for term in terms}
        self.methods = nn.ModuleDict({method.name: method for method in methods})
        self.uses_teacher = any(method.uses_teacher for method in methods)

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total loss, and each term's value before its weight, detached."""
        values: dict[str, Tensor] = {name: method(student, teacher, labels) for name, method in self.methods.items()}
        total = torch.stack([self.weights[name] * value for name, value in values.items()]).sum()
        return total, {name: value.detach() for name, value in values.items()}


def build_method(
    expression: str, dims: Dims, options: Mapping[str, Mapping[str, float]] | None = None
) -> WeightedMethods:
    """Build the sum that `expression` writes down; `options` holds each term's options by the term's name.

    Raises:
        RecipeError: malformed, an unknown term or option (with the nearest legal one), or an impossible value.
    """
    terms = parse_expression(expression)
    options = options or {}
    for name in options.keys() - {term.name for term in terms}:
        raise RecipeError(unknown("term in the method's options", name, (term.name for term in terms)))
    return WeightedMethods(terms, [_build(term.name, dims, options.get(term.name, {})) for term in terms])


def parse_expression(expression: str) -> tuple[Term, ...]:
    """Read "ce + 0.3 kd"; a weight is a plain number before the name, 1 where absent.

    Raises:
        RecipeError: not of that form, a weight of zero, an unknown term, or a term twice.
    """
    terms = tuple(_parse_term(text.strip(), expression) for text in expression.split("+"))
    names = [term.name for term in terms]
    for name in names:
        if names.count(name) > 1:
            raise RecipeError(f"method '{expression}': {name} stands there twice; add up its weights")
    return terms


def _parse_term(text: str, expression: str) -> Term:
    match = TERM.fullmatch(text)
    if match is None:
        raise RecipeError(f"method '{expression}': '{text}' is not a term or a number and a term, {EXAMPLE}")
    term = Term(float(match["weight"] or 1), match["name"])
    if term.name not in METHODS:
        raise RecipeError(unknown("method", term.name, METHODS))
    if term.weight == 0:
        raise RecipeError(f"method '{expression}': the weight of {term.name} is 0; leave the term out instead")
    return term


def _build(name: str, dims: Dims, options: Mapping[str, float]) -> Method:
    method = METHODS[name]
    legal = [option for option in inspect.signature(method).parameters if option != "dims"]
    for option in options:
        if option not in legal:
            raise RecipeError(unknown(f"option of {name}", option, legal))
    return method(dims, **options)
