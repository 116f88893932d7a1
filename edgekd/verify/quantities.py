"""What a requirement can be about: each quantity a small function from a report to its readings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from edgekd.manifest import AccuracyRow
from edgekd.verify.report import Report
from edgekd.verify.results import OPTIMIZED

PROTOCOL_FILTERS = ("way", "query", "head")
_OF_ACCURACY = ("way", "shot", "query", "head", "engine", "dataset", "split")

Filters = Mapping[str, str | int]


@dataclass(frozen=True)
class Reading:
    """One value, and a note of what it was read from."""

    value: float
    note: str = ""


@dataclass(frozen=True)
class Quantity:
    """How a quantity is read; no reading = not known, and `absent` says why. `filters` may stand in its brackets."""

    read: Callable[[Report, Filters], list[Reading]]
    filters: tuple[str, ...] = ()
    fraction: bool = False
    unit: str = ""
    absent: str = "the report does not have it"

    def show(self, value: float) -> str:
        """Return a value as text, with its unit."""
        text = f"{value:.4f}" if self.fraction else f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
        return text + self.unit


QUANTITIES: dict[str, Quantity] = {}
Read = Callable[[Report, Filters], Iterator[Reading]]


def quantity(
    name: str, filters: tuple[str, ...] = (), *, fraction: bool = False, unit: str = "", absent: str = ""
) -> Callable[[Read], Read]:
    """Register the decorated function as the quantity `name`."""

    def register(read: Read) -> Read:
        QUANTITIES[name] = Quantity(
            lambda report, wanted: list(read(report, wanted)), filters, fraction, unit, absent or Quantity.absent
        )
        return read

    return register


def _scalar(name: str, unit: str, get: Callable[[Report], float | None], absent: str = "") -> None:
    @quantity(name, unit=unit, absent=absent)
    def read(report: Report, _wanted: Filters) -> Iterator[Reading]:
        value = get(report)
        if value is not None:
            yield Reading(value)


_NO_SHAPES = "the sizes of some tensors are not known"
_NO_WEIGHTS = "the file does not tell the weights of some operators"
_scalar("params", "", lambda report: None if report.params.unknown else report.params.total, _NO_WEIGHTS)
_scalar("macs", "", lambda report: report.macs)
_scalar("weight_bytes", " B", lambda report: None if report.params.unknown else report.memory.weight_bytes, _NO_WEIGHTS)
_scalar("peak_activation_bytes", " B", lambda report: report.memory.peak_activation_bytes, _NO_SHAPES)
_scalar("peak_activation_bytes_fused", " B", lambda report: report.memory.peak_activation_bytes_fused, _NO_SHAPES)
_scalar("lower_bound_bytes", " B", lambda report: report.memory.lower_bound_bytes, _NO_SHAPES)


@quantity("accuracy", _OF_ACCURACY, fraction=True)
def accuracy(report: Report, wanted: Filters) -> Iterator[Reading]:
    """The mean over the episodes."""
    for row in _measured(report, wanted):
        yield Reading(row.mean, f" ± {row.ci95:.4f} ({row.engine})")


@quantity("accuracy_low", _OF_ACCURACY, fraction=True)
def accuracy_low(report: Report, wanted: Filters) -> Iterator[Reading]:
    """The lower end of the 95 % confidence interval."""
    for row in _measured(report, wanted):
        yield Reading(row.mean - row.ci95, f" = {row.mean:.4f} - {row.ci95:.4f} ({row.engine})")


@quantity("sqnr_db", ("node",), unit=" dB", absent="it was not measured: that takes the file's golden vectors")
def sqnr_db(report: Report, wanted: Filters) -> Iterator[Reading]:
    """Signal to quantization noise of a layer."""
    for row in report.sqnr:
        if wanted.get("node", row.node) == row.node:
            yield Reading(row.sqnr_db, f" at {row.node}")


@quantity("differing", ("engine",), fraction=True, absent="no engines were compared")
def differing(report: Report, wanted: Filters) -> Iterator[Reading]:
    """The share of output elements that differ from onnxruntime's."""
    for row in report.engines:
        if wanted.get("engine", row.engine) == row.engine and row.engine != OPTIMIZED:
            yield Reading(row.differing, f" ({row.engine})")


@quantity("max_lsb", ("engine",), unit=" LSB", absent="no engines were compared")
def max_lsb(report: Report, wanted: Filters) -> Iterator[Reading]:
    """The largest difference of an output element from onnxruntime's."""
    for row in report.engines:
        if wanted.get("engine", row.engine) == row.engine and row.engine != OPTIMIZED:
            yield Reading(row.max_lsb, f" ({row.engine})")


@quantity("accumulator_bits", ("node",), absent="no layer with integer weights has a bound")
def accumulator_bits(report: Report, wanted: Filters) -> Iterator[Reading]:
    """The bits that hold every sum of a layer."""
    for row in report.accumulators:
        if wanted.get("node", row.node) == row.node:
            yield Reading(row.bits, f" at {row.node}")


def _estimate(name: str, unit: str) -> None:
    @quantity(name, ("kind",), unit=unit, absent="the profile does not say enough to estimate it")
    def read(report: Report, wanted: Filters) -> Iterator[Reading]:
        for row in report.estimates:
            if row.quantity == name and wanted.get("kind", row.kind) == row.kind:
                yield from (Reading(value, f" (estimate, {row.kind} rate)") for value in {row.low, row.high})


_estimate("cycles", "")
_estimate("ms", " ms")
_estimate("mj", " mJ")


def _measured(report: Report, wanted: Filters) -> Iterator[AccuracyRow]:
    for row in report.accuracy:
        has = row.model_dump()
        if all(_alike(key, has[key], value) for key, value in wanted.items()):
            yield row


def _alike(key: str, has: str | int, wanted: str | int) -> bool:
    """A dataset is also known by its name alone, without its path."""
    return has == wanted or (key == "dataset" and str(has).partition(":")[0] == wanted)
