"""A search for the student that does best on validation classes within a hardware profile's limits.

Training and verification never import each other: they meet in files. This package stands above both, as the command
line does, and only that imports it. A candidate goes through the same files as any student: `edgekd.export` writes it
as ONNX, untrained, and `verify` reads that file; what `verify` fails is never trained. Neither side knows of the other,
or of the search, and the rules are those of `edgekd verify`, not a copy of them.

    runs/<name>/  search.toml  study.journal  results.json  results.md  best.toml  teacher/  trials/<number>/
"""

from __future__ import annotations
