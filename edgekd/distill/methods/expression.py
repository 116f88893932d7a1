"""Weighted sums of terms, written as text: "ce + 0.3 kd + 0.5 calibrated_mse"."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from edgekd.distill.methods.base import METHODS, Dims, Method, Outputs, Samples
from edgekd.errors import RecipeError, unknown
from edgekd.recipe import Options, Recipe

if TYPE_CHECKING:
    from edgekd.distill.tasks import Classifier

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
        self.student_layers = tuple(sorted({layer for method in methods for layer in method.student_layers}))
        self.teacher_layers = tuple(sorted({layer for method in methods for layer in method.teacher_layers}))

    def forward(self, student: Outputs, teacher: Outputs, samples: Samples) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total loss, and each term's value before its weight, detached."""
        values: dict[str, Tensor] = {name: method(student, teacher, samples) for name, method in self.methods.items()}
        total = torch.stack([self.weights[name] * value for name, value in values.items()]).sum()
        return total, {name: value.detach() for name, value in values.items()}

    def preparation(self) -> nn.ModuleDict:
        """Return the parts that are trained before distilling, by the names of their terms."""
        tasks = {name: method.prepare_task() for name, method in self.methods.items() if isinstance(method, Method)}
        return nn.ModuleDict({name: task for name, task in tasks.items() if task is not None})

    def begin(self, student: Classifier, teacher: Classifier) -> None:
        """Let each term look at both networks before the first step."""
        for method in self.methods.values():
            assert isinstance(method, Method)
            method.begin(student, teacher)


@dataclass(frozen=True)
class Needs:
    """What a sum of terms asks of the run: a teacher, labels, a teacher that learns at the same time, a preparation.

    `head`: the student's head classifies afterwards.
    """

    teacher: bool
    labels: bool
    online: bool
    head: bool
    prepared: bool = False


def needs_of(expression: str, options: Mapping[str, Options] | None = None) -> Needs:
    """Return what `expression`, with each term's options by its name, asks of the run.

    Raises:
        RecipeError: as `parse_expression`; or some terms want a teacher that learns and others one that has learned.
    """
    given = options or {}
    methods = [METHODS[term.name] for term in parse_expression(expression)]
    taught = [method for method in methods if method.uses_teacher]
    online = [method.name for method in taught if method.online]
    if online and len(online) < len(taught):
        trained = next(method.name for method in taught if not method.online)
        raise RecipeError(
            f"method '{expression}': {online[0]} trains its teacher at the same time, {trained} needs a trained one; "
            "choose one of them"
        )
    labels = any(method.needs_labels(given.get(method.name, {})) for method in methods)
    head = any(method.teaches(given.get(method.name, {})) for method in methods)
    prepared = any(method.prepare_task is not Method.prepare_task for method in methods)
    return Needs(bool(taught), labels, bool(online), head, prepared)


def adapt_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe with what each term of its method needs elsewhere in it.

    Raises:
        RecipeError: the method is malformed, or the recipe contradicts it.
    """
    for term in parse_expression(recipe.distill.method):
        recipe = METHODS[term.name].adapt(
            recipe, _checked_options(term.name, recipe.distill.options.get(term.name, {}))
        )
    return recipe


def build_method(expression: str, dims: Dims, options: Mapping[str, Options] | None = None) -> WeightedMethods:
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
        RecipeError: not of that form, a weight of zero, an unknown term, or a term or the cross-entropy twice.
    """
    terms = tuple(_parse_term(text.strip(), expression) for text in expression.split("+"))
    names = [term.name for term in terms]
    for name in names:
        if names.count(name) > 1:
            raise RecipeError(f"method '{expression}': {name} stands there twice; add up its weights")
    first, *more = [name for name in names if METHODS[name].holds_ce] or [""]
    if more:
        spare, holder = (more[0], first) if more[0] == "ce" else (first, more[0])
        raise RecipeError(
            f"method '{expression}': {holder} holds the cross-entropy with the labels already; leave {spare} out"
        )
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


def _build(name: str, dims: Dims, options: Options) -> Method:
    return METHODS[name](dims, **_checked_options(name, options))


def _checked_options(name: str, options: Options) -> dict[str, Any]:
    types = option_types(METHODS[name])
    for option in options:
        if option not in types:
            raise RecipeError(unknown(f"option of {name}", option, types))
    return {option: _checked(value, types[option], f"{name}: {option}") for option, value in options.items()}


def option_types(method: type[Method]) -> dict[str, object]:
    """Return the options of a term and the type of each."""
    hints = get_type_hints(method.__init__)
    return {name: hint for name, hint in hints.items() if name not in {"dims", "return"}}


def _checked(value: object, wanted: Any, what: str) -> Any:  # noqa: ANN401 - an option is of any type
    adapter = TypeAdapter(wanted)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise RecipeError(f"{what} is {value!r}: {error.errors()[0]['msg']}") from None
