"""Weighted sums of terms: how they are written, what they return and what is refused."""

from __future__ import annotations

import pytest
import torch

from edgekd.distill.methods import (
    DEFAULT_METHOD,
    METHODS,
    Dims,
    Method,
    Outputs,
    Samples,
    Term,
    build_method,
    needs_of,
    parse_expression,
)
from edgekd.errors import RecipeError
from edgekd.recipe import Options

DIMS = Dims(
    student=3,
    teacher=5,
    classes=4,
    images=8,
    student_maps={1: (3, 8, 8), 2: (3, 4, 4), 3: (3, 2, 2), 4: (3, 2, 2)},
    teacher_maps={1: (5, 8, 8), 2: (5, 4, 4), 3: (5, 2, 2), 4: (5, 2, 1)},
)
SAMPLES = Samples(torch.tensor([0, 3]), torch.tensor([1, 5]))
ONE = Samples(SAMPLES.labels[:1], SAMPLES.rows[:1])


def _outputs(dim: int, *, requires_grad: bool = False) -> Outputs:
    embedding, logits = torch.randn(2, dim), torch.randn(2, DIMS.classes)
    shapes = DIMS.student_maps if dim == DIMS.student else DIMS.teacher_maps
    maps = {layer: torch.randn(2, *shape).requires_grad_(requires_grad) for layer, shape in shapes.items()}
    return Outputs(embedding.requires_grad_(requires_grad), logits.requires_grad_(requires_grad), maps)


def _first(outputs: Outputs) -> Outputs:
    maps = {layer: value[:1] for layer, value in outputs.maps.items()}
    return Outputs(outputs.embedding[:1], outputs.logits[:1], maps)


@pytest.mark.parametrize(
    ("expression", "terms"),
    [
        ("ce", [(1.0, "ce")]),
        ("ce + 0.3 kd", [(1.0, "ce"), (0.3, "kd")]),
        (" .5*ce+2.kd ", [(0.5, "ce"), (2.0, "kd")]),
        ("0.5 * kl + 0.5 ce", [(0.5, "kl"), (0.5, "ce")]),
    ],
)
def test_expressions_are_read(expression: str, terms: list[tuple[float, str]]) -> None:
    assert parse_expression(expression) == tuple(Term(weight, name) for weight, name in terms)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "'' is not a term"),
        ("ce +", "'' is not a term"),
        ("ce - kd", "'ce - kd' is not a term"),
        ("-1 ce", "'-1 ce' is not a term"),
        ("ce 0.3", "'ce 0.3' is not a term"),
        ("0.3 0.4 ce", "is not a term"),
        ("0.3", "'0.3' is not a term"),
        ("nan ce", "is not a term"),
        ("ce + calibrated_mes", "unknown method 'calibrated_mes'. Did you mean 'calibrated_mse'"),
        ("ce + 0.0 kd", "the weight of kd is 0"),
        ("ce + kd + 2 ce", "ce stands there twice"),
        ("ce + dfkd", "dfkd holds the cross-entropy with the labels already; leave ce out"),
        ("0.5 kd_labels + kd + ce", "kd_labels holds the cross-entropy with the labels already; leave ce out"),
        ("dfkd + kd_labels", "kd_labels holds the cross-entropy with the labels already; leave dfkd out"),
    ],
)
def test_malformed_expressions_are_refused(expression: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        build_method(expression, DIMS)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kd": {"temprature": 2.0}}, "unknown option of kd 'temprature'. Did you mean 'temperature'"),
        ({"calibrated_mse": {"beta": 0.7}}, "unknown term in the method's options 'calibrated_mse'"),
        ({"kd": {"temperature": 0.0}}, "temperature is 0.0"),
        ({"kd": {"dims": 1.0}}, "unknown option of kd 'dims'"),
        ({"ce": {"label_smoothing": 1.0}}, "label_smoothing is 1.0"),
        ({"kd": {"temperature": "hot"}}, "kd: temperature is 'hot': Input should be a valid number"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Options], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        build_method("ce + kd", DIMS, options)
    assert message in str(error.value)


def test_the_total_is_the_weighted_sum_of_the_terms() -> None:
    student, teacher = _outputs(3), _outputs(5)
    methods = build_method("ce + 0.3 kd + 0.5 calibrated_mse", DIMS)
    total, values = methods(student, teacher, SAMPLES)
    assert list(values) == ["ce", "kd", "calibrated_mse"]
    assert total.shape == ()
    torch.testing.assert_close(total, values["ce"] + 0.3 * values["kd"] + 0.5 * values["calibrated_mse"])


def test_values_are_those_of_the_terms_alone_and_detached() -> None:
    student, teacher = _outputs(3, requires_grad=True), _outputs(5)
    total, values = build_method("ce + 0.3 kd", DIMS, {"kd": {"temperature": 2.0}})(student, teacher, SAMPLES)
    alone = METHODS["kd"](DIMS, temperature=2.0)(student, teacher, SAMPLES)  # type: ignore[call-arg]
    torch.testing.assert_close(values["kd"], alone.detach())
    assert total.requires_grad
    assert not any(value.requires_grad for value in values.values())


def test_maps_between_embeddings_are_trained_with_the_student() -> None:
    assert not list(build_method("ce + kd", DIMS).parameters())
    methods = build_method("calibrated_mse", DIMS)
    total, _ = methods(_outputs(3), _outputs(5), SAMPLES)
    total.backward()
    names = {"methods.calibrated_mse.projection.weight", "methods.calibrated_mse.projection.bias"}
    assert {name for name, parameter in methods.named_parameters() if parameter.grad is not None} == names


def test_only_labels_need_no_teacher() -> None:
    assert not needs_of("ce").teacher
    assert needs_of("ce + kd").teacher


def test_only_the_labels_need_labels() -> None:
    assert needs_of("ce + kd").labels
    assert not needs_of("kd + feature_mse").labels


def test_the_default_is_a_sum_of_known_terms() -> None:
    assert "ce" in {term.name for term in parse_expression(DEFAULT_METHOD)}
    assert needs_of(DEFAULT_METHOD).teacher


def test_only_terms_with_a_part_to_prepare_prepare_it() -> None:
    assert not needs_of("kd + feature_mse").prepared
    assert not build_method("kd + feature_mse", DIMS).preparation()
    assert needs_of("kd + feature_bce").prepared
    methods = build_method("kd + feature_bce", DIMS)
    assert list(methods.preparation()) == ["feature_bce"]
    prepared = {name.rpartition(".")[0] for name, _ in methods.preparation().named_parameters()}
    assert prepared == {"feature_bce.attributes", "feature_bce.head"}


@pytest.mark.parametrize("name", METHODS)
def test_each_term_has_its_own_file_and_a_source(name: str) -> None:
    method = METHODS[name]
    assert method.__module__ == f"edgekd.distill.methods.{name}"
    assert any(year in method.source for year in map(str, range(2010, 2100)))


@pytest.mark.parametrize("name", METHODS)
def test_each_term_is_a_finite_scalar_for_a_batch_of_one(name: str) -> None:
    method: Method = METHODS[name](DIMS)
    student, teacher = _outputs(3, requires_grad=True), _outputs(5)
    loss = method(_first(student), _first(teacher), ONE)
    loss.backward()
    inputs = (student.embedding, student.logits, *student.maps.values())
    gradients = [tensor.grad for tensor in inputs if tensor.grad is not None]
    assert loss.shape == ()
    assert torch.isfinite(loss)
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("name", METHODS)
def test_each_term_says_whether_it_teaches_the_head(name: str) -> None:
    student, teacher = _outputs(3, requires_grad=True), _outputs(5)
    METHODS[name](DIMS)(student, teacher, SAMPLES).backward()
    assert METHODS[name].teaches_head == (student.logits.grad is not None)


@pytest.mark.parametrize("name", METHODS)
def test_each_term_says_whether_it_holds_the_cross_entropy_of_the_labels(name: str) -> None:
    """A student sure of the right classes or of others: the teacher's uniform predictions say nothing of either."""
    teacher = Outputs(torch.zeros(2, 5), torch.zeros(2, DIMS.classes), _outputs(5).maps)
    student, onehot = _outputs(3), torch.eye(DIMS.classes)[SAMPLES.labels]
    right, wrong = (Outputs(student.embedding, 3 * where, student.maps) for where in (onehot, onehot.roll(1, 1)))
    method = METHODS[name](DIMS).eval()
    losses = []
    for outputs in (right, wrong):
        torch.manual_seed(0)
        losses.append(method(outputs, teacher, SAMPLES).item())
    assert METHODS[name].holds_ce == (losses[1] > losses[0] + 1e-4)


def test_a_sum_teaches_the_head_where_one_term_does() -> None:
    assert needs_of("kd + feature_mse").head
    assert not needs_of("feature_mse + calibrated_mse").head


@pytest.mark.parametrize("name", METHODS)
def test_each_term_survives_extreme_logits(name: str) -> None:
    method = METHODS[name](DIMS)
    logits = torch.tensor([[1e4, -1e4, 0.0, 0.0], [0.0, 1e4, 0.0, -1e4]])
    maps = [
        {layer: torch.full((2, *shape), 1e4) for layer, shape in m.items()}
        for m in (DIMS.student_maps, DIMS.teacher_maps)
    ]
    student, teacher = (
        Outputs(torch.full((2, 3), 1e4), logits, maps[0]),
        Outputs(torch.full((2, 5), -1e4), -logits, maps[1]),
    )
    assert torch.isfinite(method(student, teacher, SAMPLES))
