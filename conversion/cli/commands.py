"""Parsers and handlers of the ``laion-zarr`` commands, except those in `download`."""

from __future__ import annotations

import argparse
import io
import json
import logging
import sys
from collections.abc import Sequence
from importlib.metadata import version

from laion_zarr import config
from laion_zarr.conversion.cli import download
from laion_zarr.errors import LaionZarrError
from laion_zarr.store.bounds.text import printable

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``laion-zarr`` and return its exit code, 0 only if everything asked for is done."""
    arguments = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # its encoding may lack some characters
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        print("Interrupted. What is whole is kept; run the same command to go on.", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # the process that reads stdout, such as ``head``, has ended
        return 1
    except (LaionZarrError, ValueError, OSError, ImportError) as error:
        if arguments.debug:
            raise
        _complain(error)
        return 1


def _complain(error: BaseException, what: str = "") -> None:
    message = printable(" ".join(str(error).split()) or type(error).__name__)
    print(f"error: {what}{': ' if what else ''}{message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="laion-zarr", description="LAION-fMRI as one Zarr store: convert it, look at it."
    )
    parser.set_defaults(debug=False)
    parser.add_argument("--version", action="version", version=version("laion-zarr"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        *(_add_config, _add_info, _add_convert, _add_outdated, _add_verify),
        *(_add_splits, _add_demo, _add_explore),
    ):
        add(commands)
    download.add(commands, _command)
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", help="local path or fsspec URL of the store")
    parser.add_argument(
        "--storage-option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="option for a store at a URL; may be given several times",
    )


def _storage_options(arguments: argparse.Namespace) -> dict[str, str | bool]:
    pairs = [option.partition("=") for option in arguments.storage_option]
    if wrong := [key for key, equals, _ in pairs if not equals]:
        raise ValueError(f"--storage-option takes KEY=VALUE, got {wrong[0]!r}.")
    truth = {"true": True, "false": False}
    return {key: truth.get(value.lower(), value) for key, _, value in pairs}


def _add_config(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "config", "Remember the data directory and the store.")
    parser.add_argument("--data-dir", metavar="DIR", help="root of the local mirror")
    parser.add_argument("--store", metavar="S", help="local path or fsspec URL of the store")
    parser.set_defaults(run=_config)


def _config(arguments: argparse.Namespace) -> int:
    if arguments.data_dir:
        config.dataset_initialize(arguments.data_dir)
    if arguments.store:
        config.store_initialize(arguments.store)
    print(f"settings: {config.config_file()}")
    for name, get in (("data directory", config.get_data_dir), ("store", config.get_store)):
        try:
            print(f"{name}: {get()}")
        except LaionZarrError:
            print(f"{name}: not set")
    return 0


def _add_info(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "info", "Show what is downloaded and what is converted.")
    parser.add_argument("--subject", help="only this one")
    _add_store(parser)
    parser.set_defaults(run=_info)


def _info(arguments: argparse.Namespace) -> int:
    from laion_zarr.conversion.cli.info import describe

    print(describe(arguments.store, _storage_options(arguments), arguments.subject))
    return 0


def _add_convert(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from laion_zarr.conversion.budget import MASK_CHOICES, PARTS

    parser = _command(commands, "convert", "Convert a mirror of LAION-fMRI into the store.")
    parser.add_argument("--source", metavar="DIR", help="data directory, or s3://laion-fmri")
    _add_store(parser)
    parser.add_argument("--subject", nargs="+", action="extend", help="only these, or 'all'")
    parser.add_argument("--ses", nargs="+", action="extend", help="only these sessions")
    parser.add_argument("--parts", nargs="+", action="extend", choices=PARTS, help="only these")
    parser.add_argument(
        "--mask", choices=MASK_CHOICES, default="both", help="voxels to store (default: both)"
    )
    workers = parser.add_mutually_exclusive_group()
    workers.add_argument("--n-workers", type=int, help="processes (default: cores, sessions)")
    workers.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a Dask cluster, whose workers convert sessions"
    )
    parser.add_argument(
        "--memory", help="for all workers together (default: 2GB each); of a cluster, for a session"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--overwrite", action="store_true", help="convert anew what is there")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=_convert)


def _convert(arguments: argparse.Namespace) -> int:
    from laion_zarr.conversion.run import pipeline
    from laion_zarr.conversion.source.files import open_source

    options = pipeline.check_options(
        arguments.subject,
        arguments.ses,
        arguments.parts,
        arguments.mask,
        arguments.n_workers,
        arguments.memory,
        arguments.overwrite,
        arguments.scheduler,
    )
    source = arguments.source or config.get_data_dir() if options.needs_source else None
    report = pipeline.run_conversion(
        open_source(source) if source else None,
        arguments.store or config.get_store(),
        _storage_options(arguments),
        options,
        arguments.dry_run,
        not arguments.quiet,
    )
    for line in report.missing:
        print(f"warning: {line}", file=sys.stderr)
    for what, error in report.failed.items():
        _complain(error, what)
    if arguments.dry_run:
        for line in report.planned:
            print(line)
        print(f"{len(report.planned)} parts to do, up to {report.disk_nbytes / 1e9:.2f} GB of disk")
    else:
        print(
            f"{len(report.converted)} parts converted, {len(report.unchanged)} unchanged, "
            f"{len(report.failed)} failed"
        )
    return 1 if report.failed else 0


def _add_outdated(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "Say what the source holds that the store lacks, or holds in an older form."
    parser = _command(commands, "outdated", text)
    parser.add_argument("--source", metavar="DIR", help="data directory, or s3://laion-fmri")
    _add_store(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=_outdated)


def _outdated(arguments: argparse.Namespace) -> int:
    from laion_zarr.conversion.planning.outdated import outdated

    report = outdated(
        arguments.source, arguments.store, storage_options=_storage_options(arguments)
    )
    print(json.dumps(report.to_json(), indent=1) if arguments.json else report)
    for problem in report.problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if report.problems else 0


def _add_verify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "verify", "Check that the store is whole.")
    _add_store(parser)
    parser.add_argument("--source", metavar="DIR", help="compare the source files with it, too")
    parser.add_argument("--deep", action="store_true", help="compare every value with the source")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=_verify)


def _verify(arguments: argparse.Namespace) -> int:
    from laion_zarr.conversion.verification.store import run_verification

    report = run_verification(
        arguments.store,
        arguments.source,
        arguments.deep,
        _storage_options(arguments),
        not arguments.quiet,
    )
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    for problem in report.problems:
        print(f"error: {problem}", file=sys.stderr)
    compared = f", {report.n_values:,} values compared with the source" if arguments.deep else ""
    print(
        f"{report.n_files:,} files ({report.n_bytes / 1e9:.2f} GB) checked{compared}: "
        f"{len(report.problems) or 'no'} problem{'s' * (len(report.problems) != 1)}"
    )
    return 1 if report.problems else 0


def _add_splits(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "Train/test splits in the store."
    actions = commands.add_parser("splits", help=text, description=text).add_subparsers(
        required=True, metavar="ACTION"
    )
    parser = _command(actions, "add", "Take split files into the store, or replace them.")
    parser.add_argument(
        "source",
        nargs="?",
        metavar="DIR|URL|ZIP",
        help="POOL/NAME.json (default: as published)",
    )
    _add_store(parser)
    parser.set_defaults(run=_splits)


def _splits(arguments: argparse.Namespace) -> int:
    from laion_zarr.conversion.parts.splits import add_splits

    report = add_splits(
        arguments.source, arguments.store, storage_options=_storage_options(arguments)
    )
    for generation, names in sorted(report.generations.items()):
        print(f"{generation}: {len(names)} splits")
    if report.own:
        some = ", ".join(report.own[:3]) + (", …" if len(report.own) > 3 else "")
        print(f"warning: of no published generation: {len(report.own)} ({some})", file=sys.stderr)
    print(f"{len(report.added)} splits read; {len(report.stored)} in the store")
    return 0


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands, "demo", "Make a small synthetic dataset, convert it, load a face area, plot."
    )
    parser.add_argument(
        "--dir", default="laion-zarr-demo", help="folder to write (default: %(default)s)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from laion_zarr.conversion.cli.demo import run_demo

    run_demo(arguments.dir, progress=not arguments.quiet)
    return 0


def _add_explore(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "explore", "Look at a store in the browser, until Ctrl-C.")
    _add_store(parser)
    parser.add_argument("--port", type=int, help="port of 127.0.0.1 (default: one that is free)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.add_argument(
        "--export", metavar="DIR", help="write the page instead, for a web server or a bucket"
    )
    parser.set_defaults(run=_explore)


def _explore(arguments: argparse.Namespace) -> int:
    if arguments.export:
        from laion_zarr.explorer.page import export_page

        print(export_page(arguments.export))
        return 0
    from laion_zarr.explorer.server import serve

    serve(
        arguments.store or config.get_store(),
        _storage_options(arguments),
        arguments.port,
        not arguments.no_browser,
    )
    return 0
