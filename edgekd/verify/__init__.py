"""Torch-free verification of any ONNX file against a hardware profile: `verify` returns a `Report`."""

from __future__ import annotations

from edgekd.verify.accuracy import Options
from edgekd.verify.pipeline import verify
from edgekd.verify.report import Report

__all__ = ["Options", "Report", "verify"]
