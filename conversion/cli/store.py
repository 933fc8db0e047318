"""Commands that work with the local mirror and the store."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter
from cyclopts.validators import mutually_exclusive

from laion_zarr import config
from laion_zarr._words import as_size
from laion_zarr.conversion.cli.options import (
    DEFAULT_PLACE,
    SESSIONS,
    Json,
    Location,
    Place,
    Quiet,
    Source,
    Subject,
    Subjects,
    Words,
)
from laion_zarr.conversion.cli.output import complain, print_document
from laion_zarr.errors import LaionZarrError
from laion_zarr.store.schema import MASK_CHOICES, PARTS

if TYPE_CHECKING:
    from laion_zarr.conversion.options import Report

_WORKERS = Group(validator=mutually_exclusive)


@Parameter(name="*")
@dataclass(frozen=True)
class Selection:
    """What to convert."""

    subject: Annotated[Subjects | None, Parameter(help="such as sub-01 (default: all)")] = None
    ses: Annotated[Words | None, SESSIONS, Parameter(help="such as 01 (default: all)")] = None
    parts: Annotated[Words | None, Parameter(choices=PARTS, help="only these")] = None
    mask: Annotated[
        str, Parameter(choices=MASK_CHOICES, help="voxels to store (default: both)")
    ] = "both"
    overwrite: Annotated[bool, Parameter(help="convert anew what is there")] = False


@Parameter(name="*")
@dataclass(frozen=True)
class Workers:
    """Who converts it, with how much memory."""

    n_workers: Annotated[
        int | None, Parameter(group=_WORKERS, help="processes (default: cores, sessions)")
    ] = None
    scheduler: Annotated[
        str | None,
        Parameter(
            group=_WORKERS,
            metavar="ADDRESS",
            help="of a Dask cluster, whose workers convert sessions",
        ),
    ] = None
    memory: Annotated[
        str | None,
        Parameter(help="for all workers together (default: 2GB each); of a cluster, for a session"),
    ] = None


@Parameter(name="*")
@dataclass(frozen=True)
class Output:
    """What is printed while and after a store is made or checked."""

    json: Json = False
    quiet: Quiet = False


_EVERYTHING, _DEFAULT_WORKERS, _OUTPUT = Selection(), Workers(), Output()


def configure(
    *,
    data_dir: Annotated[
        Location | None, Parameter(metavar="DIR", help="root of the local mirror")
    ] = None,
    store: Annotated[
        Location | None, Parameter(metavar="S", help="local path or fsspec URL of the store")
    ] = None,
) -> int:
    """Remember the data directory and the store."""
    if data_dir:
        config.dataset_initialize(data_dir)
    if store:
        config.store_initialize(str(store))
    print(f"settings: {config.config_file()}")
    for name, get in (("data directory", config.get_data_dir), ("store", config.get_store)):
        try:
            print(f"{name}: {get()}")
        except LaionZarrError:
            print(f"{name}: not set")
    return 0


def info(*, subject: Subject = None, place: Place = DEFAULT_PLACE, json: Json = False) -> int:
    """Show what is downloaded and what is converted."""
    from laion_zarr.conversion.cli.info import as_text, facts

    found = facts(place.store, place.storage_options, subject)
    if json:
        print_document("info", found)
    else:
        print(as_text(found))
    return 0


def convert(
    *,
    source: Source = None,
    place: Place = DEFAULT_PLACE,
    selection: Selection = _EVERYTHING,
    workers: Workers = _DEFAULT_WORKERS,
    dry_run: Annotated[bool, Parameter(help="only say what would be done")] = False,
    output: Output = _OUTPUT,
) -> int:
    """Convert a mirror of LAION-fMRI into the store."""
    from laion_zarr.conversion.run import pipeline
    from laion_zarr.conversion.source.files import open_source

    options = pipeline.check_options(
        selection.subject,
        selection.ses,
        selection.parts,
        selection.mask,
        workers.n_workers,
        workers.memory,
        selection.overwrite,
        workers.scheduler,
    )
    mirror = source or config.get_data_dir() if options.needs_source else None
    report = pipeline.run_conversion(
        open_source(mirror) if mirror else None,
        place.store or config.get_store(),
        place.storage_options,
        options,
        dry_run,
        not output.quiet,
    )
    for line in report.missing:
        print(f"warning: {line}", file=sys.stderr)
    for what, error in report.failed.items():
        complain(error, what)
    if output.json:
        failed = {what: str(error) for what, error in report.failed.items()}
        facts = {field: value for field, value in vars(report).items() if field != "failed"}
        print_document("convert", {"dry_run": dry_run, **facts, "failed": failed})
    else:
        print("\n".join(_conversion(report, dry_run, place.store or config.get_store())))
    return 1 if report.failed else 0


def _conversion(report: Report, dry_run: bool, store: Location) -> list[str]:
    """What was done, or is to do, and what comes next."""
    if dry_run:
        size = f"up to {as_size(report.disk_nbytes)} of disk"
        return [*report.planned, f"{len(report.planned)} parts to do, {size}"]
    count = f"{len(report.converted)} parts converted, {len(report.unchanged)} unchanged"
    subjects = sorted({what.split()[0] for what in report.converted if what.startswith("sub-")})
    if report.failed or not subjects:
        return [f"{count}, {len(report.failed)} failed"]
    return [
        f"{count}, 0 failed",
        f"Go on    load_subject({subjects[0][4:]!r}, store={str(store)!r})",
        f"Check    laion-zarr verify --store {shlex.quote(str(store))}",
    ]


def outdated(*, source: Source = None, place: Place = DEFAULT_PLACE, json: Json = False) -> int:
    """Say what the source holds that the store lacks, or holds in an older form."""
    from laion_zarr.conversion.planning.outdated import outdated as compare

    report = compare(source, place.store, storage_options=place.storage_options)
    if json:
        print_document("outdated", report.to_json())
    else:
        print(report)
    for problem in report.problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if report.problems else 0


def verify(
    *,
    place: Place = DEFAULT_PLACE,
    source: Annotated[
        Location | None, Parameter(metavar="DIR", help="compare the source files with it, too")
    ] = None,
    deep: Annotated[bool, Parameter(help="compare every value with the source")] = False,
    output: Output = _OUTPUT,
) -> int:
    """Check that the store is whole."""
    from laion_zarr.conversion.verification.store import run_verification

    report = run_verification(place.store, source, deep, place.storage_options, not output.quiet)
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    for problem in report.problems:
        print(f"error: {problem}", file=sys.stderr)
    if output.json:
        where = {"store": place.store or config.get_store(), "source": source}
        print_document("verify", where | asdict(report))
    else:
        compared = f", {report.n_values:,} values compared with the source" if deep else ""
        print(
            f"{report.n_files:,} files ({as_size(report.n_bytes)}) checked{compared}: "
            f"{len(report.problems) or 'no'} problem{'s' * (len(report.problems) != 1)}"
        )
    return 1 if report.problems else 0


def add_splits(
    source: Annotated[
        Location | None,
        Parameter(metavar="DIR|URL|ZIP", help="POOL/NAME.json (default: as published)"),
    ] = None,
    /,
    *,
    place: Place = DEFAULT_PLACE,
) -> int:
    """Take split files into the store, or replace them."""
    from laion_zarr.conversion.parts.splits import add_splits as add

    report = add(source, place.store, storage_options=place.storage_options)
    for generation, names in sorted(report.generations.items()):
        print(f"{generation}: {len(names)} splits")
    if report.own:
        some = ", ".join(report.own[:3]) + (", …" if len(report.own) > 3 else "")
        print(f"warning: of no published generation: {len(report.own)} ({some})", file=sys.stderr)
    print(f"{len(report.added)} splits read; {len(report.stored)} in the store")
    return 0


def demo(
    *,
    dir: Annotated[
        Location, Parameter(metavar="DIR", help="folder to write (default: laion-zarr-demo)")
    ] = "laion-zarr-demo",
    quiet: Quiet = False,
) -> int:
    """Make a small synthetic dataset, convert it, load a face area, plot."""
    from laion_zarr.conversion.cli.demo import run_demo

    run_demo(dir, progress=not quiet)
    return 0


def explore(
    *,
    place: Place = DEFAULT_PLACE,
    port: Annotated[
        int | None, Parameter(help="port of 127.0.0.1 (default: one that is free)")
    ] = None,
    no_browser: Annotated[bool, Parameter(help="only print the address")] = False,
    export: Annotated[
        Location | None,
        Parameter(metavar="DIR", help="write the page instead, for a web server or a bucket"),
    ] = None,
) -> int:
    """Look at a store in the browser, until Ctrl-C."""
    if export:
        from laion_zarr.explorer.page import export_page

        print(export_page(export))
        return 0
    from laion_zarr.explorer.server import serve

    serve(place.store or config.get_store(), place.storage_options, port, not no_browser)
    return 0
