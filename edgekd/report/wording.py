"""Sentences that the terminal and the page share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekd.comparison import Difference, Score
    from edgekd.verify.report import Environment, Memory
    from edgekd.verify.results import Certificate, Estimate, RegionRow, SqnrRow

MOST_REASONS = 3
INTERVALS = (
    "One run: ± is the 95 % interval of its test episodes or images; how much another seed would change is not in it. "
    "Several seeds: mean ± standard deviation over them."
)
TESTS = {
    "z": "z on the two intervals; the spread of seeds is not in it",
    "welch": "Welch's t over the seeds",
}

# What rules demand that are no functions of a file alone; the others say it in their docstring.
_SENTENCES: Mapping[str, str] = {
    "few-shot-accuracy": "The file runs on images and gives an embedding of each.",
    "data-fingerprint": "Accuracy is measured on the images that the file's manifest names.",
    "bit-exact-engines": "The engines that the certificate names give the same integers.",
    "golden-vectors": "The file gives the golden integers that were exported beside it.",
    "integer-simulation": "The arithmetics to simulate can compute this file.",
    "remark": "Something to know about this run; it decides nothing.",
    "require": "The report meets the limits that the user set.",
}
_UNITS: Mapping[str, str] = {"cycles": "cycles", "ms": "ms", "mj": "mJ"}
_KINDS: Mapping[str, str] = {"peak": "at the data sheet's peak rate", "measured": "at a measured rate"}


def rule_sentence(name: str) -> str:
    """What a rule demands, in one sentence."""
    from edgekd.verify.rules import RULES, sentence

    return sentence(name) if name in RULES else _SENTENCES.get(name, f"What '{name}' demands.")


def live_set(memory: Memory) -> str:
    """The terms of the memory peak, as a sum."""
    return " + ".join(
        f"{item.bytes:,} ({item.tensor}, {' x '.join(map(str, item.shape))})" for item in memory.live_at_peak
    )


def weights_by_width(memory: Memory) -> str:
    """How the weight bytes split by bit-width, biases apart; empty where there are none."""
    return ", ".join(f"{row.bytes:,} B of {row.bits}-bit {row.kind}" for row in memory.weights)


def region_line(row: RegionRow) -> str:
    """How full a memory for weights or biases is."""
    return f"{row.region} ({row.role}): {row.used_bytes:,} of {row.bytes:,} B"


def versions_line(environment: Environment) -> str:
    """The versions that the report depends on, and what the CPU can do."""
    names = [f"edgekd {environment.edgekd}", *(f"{name} {version}" for name, version in environment.versions.items())]
    flags = "flags unknown" if environment.cpu_flags is None else " ".join(environment.cpu_flags) or "none of interest"
    return f"{', '.join(names)}; CPU: {flags}"


def certificate_line(certificate: Certificate) -> str:
    """Which arithmetics are proven to compute the same integers, and if not that of the target, why."""
    if certificate.bit_exact:
        proof = "power-of-two scales, every sum below 2^24"
        if certificate.arithmetics and not certificate.unproven:
            return f"certificate: bit-exact everywhere ({proof}, and nothing lies half way between integers)"
        proven = f"certificate: bit-exact in onnxruntime at every optimization level{_beside(certificate)} ({proof})"
        others = ", ".join(certificate.unproven)
        return proven + (f"; not proven for {others}, which may round otherwise" if others else "")
    reasons = certificate.reasons[:MOST_REASONS] or ("not proven",)
    more = len(certificate.reasons) - len(reasons)
    return f"no certificate of bit-exactness: {'; '.join(reasons)}" + (f"; and {more} more" if more > 0 else "")


def _beside(certificate: Certificate) -> str:
    return f" and the arithmetic {', '.join(certificate.arithmetics)}" if certificate.arithmetics else ""


def sqnr_line(rows: Sequence[SqnrRow]) -> str:
    """The layer that loses most to quantization."""
    worst = min(rows, key=lambda row: row.sqnr_db)
    return f"signal to quantization noise: worst {worst.sqnr_db:.1f} dB at {worst.node} ({worst.tensor})"


def estimate_line(row: Estimate) -> str:
    """A cost with its kind: never a measurement of this file."""
    low, high = (f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in (row.low, row.high))
    amount = low if low == high else f"{low} to {high}"
    source = f" ({row.source})" if row.source else ""
    return f"{amount} {_UNITS[row.quantity]} {_KINDS[row.kind]}{source}"


def score_cell(score: Score) -> str:
    """A score in %: one run with its interval, or several with their spread."""
    if score.std is None:
        return f"{100 * score.mean:.2f} ± {100 * score.ci95s[0]:.2f}"
    return f"{100 * score.mean:.2f} ± {100 * score.std:.2f} (n = {len(score.values)})"


def difference_cells(found: Difference) -> tuple[str, ...]:
    """What is compared (first, second, at what), points, test, p, corrected p, and whether it is beyond noise."""
    within = found.first == found.second
    first = f"{found.first}, {found.first_stage}" if within else found.first
    second = f"{found.second}, {found.second_stage}" if within else found.second
    stages = " and ".join(dict.fromkeys((found.first_stage, found.second_stage)))
    at = found.measure if within else f"{stages}, {found.measure}"
    verdict = "cannot be told" if found.p is None else "yes" if found.beyond_noise else "no"
    points = f"{100 * found.difference:+.2f}"
    return first, second, at, points, found.test, _p(found.p), _p(found.p_holm), verdict


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"
