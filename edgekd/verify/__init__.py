"""Torch-free verification of any ONNX file against a hardware profile: `verify` returns a `Report`."""

from __future__ import annotations

from edgekd.verify.accuracy import Options
from edgekd.verify.pipeline import find_models, verify, verify_each
from edgekd.verify.report import Collection, Report, Unverified, collect
from edgekd.verify.request import Request
from edgekd.verify.requirements import Requirement, parse

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
    "verify",
    "verify_each",
]
