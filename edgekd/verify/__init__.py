"""Torch-free verification of any ONNX file against a hardware profile: `verify` returns a `Report`."""

from __future__ import annotations

from edgekd.verify.accuracy import Options
from edgekd.verify.pipeline import find_models, shown_error, verify, verify_each
from edgekd.verify.report import Collection, Report, Unverified, collect, shown_path
from edgekd.verify.request import Request
from edgekd.verify.requirements import Requirement, parse, undecided

__all__ = [
    "Collection",
    "Options",
    "Report",
    "Request",
    "Requirement",
    "Unverified",
    "collect",
    "find_models",
    "parse",
    "shown_error",
    "shown_path",
    "undecided",
    "verify",
    "verify_each",
]
