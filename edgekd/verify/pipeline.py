"""From a file to its report: read, analyse, check every rule, measure."""

from __future__ import annotations

import time
from pathlib import Path

from edgekd.errors import UsageError
from edgekd.manifest import Manifest
from edgekd.profile import HardwareProfile, load_profile, profile_names
from edgekd.verify.accuracy import Measured, Notify, Options, measure
from edgekd.verify.facts import facts_of
from edgekd.verify.reading import read_graph
from edgekd.verify.report import Report, Timings, report_of
from edgekd.verify.rules import check_all


def verify(
    path: str | Path,
    profile: str | HardwareProfile | None = None,
    *,
    static: bool = False,
    options: Options | None = None,
    notify: Notify | None = None,
) -> Report:
    """Check an ONNX file against a hardware profile, and unless `static` measure its few-shot accuracy.

    The profile defaults to the one in the file's manifest, the images and protocol to `Options`.

    Raises:
        ModelError: the file cannot be read or run.
        ProfileError: there is no such profile, or it is malformed.
        UsageError: the file names no profile and none is given; an impossible protocol.
        DataError: the images cannot be read, or are too few.
    """
    start = time.perf_counter()
    facts = facts_of(read_graph(Path(path)))
    hardware = _profile(facts.manifest, profile)
    findings = check_all(facts, hardware)
    static_s = time.perf_counter() - start
    measured = Measured() if static else measure(facts, hardware, options or Options(), notify)
    accuracy_s = None if static else time.perf_counter() - start - static_s
    return report_of(
        facts,
        hardware,
        findings + measured.findings,
        accuracy=measured.rows,
        warnings=(*_profile_warnings(facts.manifest, profile, hardware), *measured.warnings),
        timings=Timings(static_s=round(static_s, 4), accuracy_s=None if accuracy_s is None else round(accuracy_s, 4)),
    )


def _profile(manifest: Manifest | None, profile: str | HardwareProfile | None) -> HardwareProfile:
    if isinstance(profile, HardwareProfile):
        return profile
    if profile or manifest:
        return load_profile(profile or (manifest.profile if manifest else ""))
    known = ", ".join(profile_names())
    raise UsageError(f"this file was not exported by edgekd: say for which hardware with --profile NAME|FILE ({known})")


def _profile_warnings(
    manifest: Manifest | None, given: str | HardwareProfile | None, hardware: HardwareProfile
) -> tuple[str, ...]:
    """Say where the profile that the file was made for is no longer what it was."""
    if manifest is None or given not in {None, manifest.profile} or manifest.profile_sha256 == hardware.sha256:
        return ()
    return (f"profile '{hardware.name}' has changed since the file was exported for it",)
