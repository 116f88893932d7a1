"""From a file to its report: read, analyse, check every rule, measure, judge."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from edgekd.errors import EdgekdError, ModelError, ProfileError, StorageError, UsageError
from edgekd.manifest import Manifest
from edgekd.profile import HardwareProfile, load_profile, profile_names
from edgekd.text import escaped
from edgekd.verify.accuracy import Measured, Options, measure, unmeasured
from edgekd.verify.assembly import Computed, report_of
from edgekd.verify.estimates import estimates_of
from edgekd.verify.facts import Facts, facts_of
from edgekd.verify.foreign import foreign_operators
from edgekd.verify.images import Notify
from edgekd.verify.integer.static import accumulator_rows, certificate_of, chosen_arithmetic
from edgekd.verify.reading import read_graph
from edgekd.verify.regions import weight_regions
from edgekd.verify.report import Report, Timings, Unverified, shown_path
from edgekd.verify.request import Request
from edgekd.verify.requirements import Requirement, complete, judged
from edgekd.verify.rules import SCALES_RULE, WEIGHTS_RULE, Finding, check_all
from edgekd.verify.windows import too_large

SUFFIX = ".onnx"


def verify(
    path: str | Path,
    profile: str | HardwareProfile | None = None,
    *,
    static: bool = False,
    options: Options | Request | None = None,
    require: Sequence[Requirement] = (),
    notify: Notify | None = None,
) -> Report:
    """Check an ONNX file against a hardware profile, and unless `static` measure its few-shot accuracy.

    The profile defaults to the one in the file's manifest, and so do the images and the protocol; `Options` fix the
    protocol, a `Request` leaves open what it does not say. A file that can be read and not be measured has a report,
    and `Report.errors` say why.

    Raises:
        ModelError: the file cannot be read.
        ProfileError: there is no such profile, or it is malformed.
        UsageError: the file names no profile and none is given; an impossible protocol; requirements against it.
        DataError: the images cannot be read, or are too few.
    """
    start = time.perf_counter()
    facts = facts_of(read_graph(Path(path)))
    hardware = _profile(facts.manifest, profile)
    findings = check_all(facts, hardware)
    chosen = _options(options, require, facts.manifest, hardware)
    middle = time.perf_counter()
    invalid = _invalid(facts, findings)
    measured = Measured() if static else _measured(facts, hardware, chosen, notify, invalid)
    accuracy_s = None if static else round(time.perf_counter() - middle, 4)
    report = report_of(
        facts,
        hardware,
        findings + measured.findings,
        measured=measured,
        computed=_computed(facts, hardware),
        errors=(*invalid, *measured.errors),
        warnings=(*_profile_warnings(facts.manifest, profile, hardware), *measured.warnings),
        timings=Timings(static_s=round(middle - start, 4), accuracy_s=accuracy_s),
    )
    return judged(report, require)


def find_models(folder: Path) -> tuple[Path, ...]:
    """Return every ONNX file below a folder (its suffix in any case), sorted.

    Hidden files and folders, and links to folders, are left out.

    Raises:
        ModelError: there is none.
        StorageError: a folder cannot be listed.
    """
    found = tuple(sorted(_walk(folder)))
    if not found:
        raise ModelError(f"no {SUFFIX} file in {folder} or below it")
    return found


def verify_each(
    paths: Iterable[Path],
    profile: str | HardwareProfile | None = None,
    *,
    static: bool = False,
    options: Options | Request | None = None,
    require: Sequence[Requirement] = (),
    notify: Notify | None = None,
) -> Iterator[Report | Unverified]:
    """Verify several files, one after the other; what is wrong with one does not stop the others.

    Raises:
        ProfileError: there is no such profile, or it is malformed.
    """
    given = load_profile(profile) if isinstance(profile, str) else profile
    for path in paths:
        try:
            yield verify(path, given, static=static, options=options, require=require, notify=notify)
        except EdgekdError as error:
            yield Unverified(path=shown_path(path), error=shown_error(error))


def _invalid(facts: Facts, findings: Iterable[Finding]) -> tuple[str, ...]:
    """What no target could be judged by: such a file is not only unfit for the profile, it must be changed."""
    rules = {SCALES_RULE, WEIGHTS_RULE}
    bad = (finding.message for finding in findings if finding.rule in rules and finding.status == "fail")
    large = (f"{node.name}: {text}" for node in facts.graph.nodes if (text := too_large(facts.graph, node)))
    return tuple(f"{facts.graph.path}: {message}" for message in (*bad, *large, *foreign_operators(facts.graph)))


def _measured(
    facts: Facts, hardware: HardwareProfile, options: Options, notify: Notify | None, invalid: Sequence[str]
) -> Measured:
    """Measure a file; where it does not let itself be run, what was found without running it must not be lost."""
    if invalid:
        return unmeasured(invalid[0], invalid=True)
    try:
        return measure(facts, hardware, options, notify)
    except ModelError as error:
        simulated_alone = (
            facts.flavour == "qonnx"
        )  # a file for other tools, as sound as any, that onnxruntime cannot run
        return unmeasured(escaped(str(error)), invalid=simulated_alone)


def shown_error(error: EdgekdError) -> str:
    """Return a message as text that any format can hold."""
    return str(error).encode("utf-8", "replace").decode()


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise StorageError(f"cannot list {error.filename}: {error.strerror}") from error

    for where, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(where, name) for name in files if not name.startswith(".") and name.lower().endswith(SUFFIX))


def _options(
    options: Options | Request | None,
    require: Sequence[Requirement],
    manifest: Manifest | None,
    hardware: HardwareProfile,
) -> Options:
    if isinstance(options, Options):
        return options
    request = complete(options or Request(), require)
    request.check()
    return request.options(manifest, chosen_arithmetic(hardware).name)


def _computed(facts: Facts, hardware: HardwareProfile) -> Computed:
    """What can be said without running the file."""
    return Computed(
        accumulators=accumulator_rows(facts.lowered, hardware),
        certificate=certificate_of(facts.lowered, hardware),
        estimates=estimates_of(facts, hardware),
        regions=weight_regions(facts.costs, hardware),
    )


def _profile(manifest: Manifest | None, profile: str | HardwareProfile | None) -> HardwareProfile:
    if isinstance(profile, HardwareProfile):
        return profile
    if profile:
        return load_profile(profile)
    if manifest:
        return _own_profile(manifest)
    known = ", ".join(profile_names())
    raise UsageError(f"this file was not exported by edgekd: say for which hardware with --profile NAME|FILE ({known})")


def _own_profile(manifest: Manifest) -> HardwareProfile:
    """The profile that the file was exported for: as it is on this machine, else as the file carries it."""
    try:
        return load_profile(manifest.profile)
    except ProfileError:
        if not manifest.profile_toml:
            raise
        return HardwareProfile.from_text(
            manifest.profile_toml, sha256=manifest.profile_sha256, what="the profile inside the ONNX file"
        )


def _profile_warnings(
    manifest: Manifest | None, given: str | HardwareProfile | None, hardware: HardwareProfile
) -> tuple[str, ...]:
    """Say where the profile that the file was made for is no longer what it was."""
    name = given.name if isinstance(given, HardwareProfile) else given
    if manifest is None or name not in {None, manifest.profile} or manifest.profile_sha256 == hardware.sha256:
        return ()
    return (f"profile '{hardware.name}' has changed since the file was exported for it",)
