"""edgekd: distill, quantize, export and verify few-shot students for accelerators with hard limits."""

__version__ = "0.1.0"
