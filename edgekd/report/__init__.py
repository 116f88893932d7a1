"""Reports a person reads: one HTML page for each training run."""

from __future__ import annotations

from edgekd.report.page import training_page

__all__ = ["training_page"]
