"""The application: its commands in groups, with examples; exit codes, errors, Ctrl-C.

Built on cyclopts, which takes several words after one option (``--ses 01 02``; Click, and so
typer, cannot) and asks Python for the values that a shell completes.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Annotated, NamedTuple

from cyclopts import App, CycloptsError, Group, Parameter

from laion_zarr.conversion.cli import download, store
from laion_zarr.conversion.cli.output import complain
from laion_zarr.errors import LaionZarrError

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130

_GET, _CONVERT, _LOOK, _CHECK, _OPTIONS = (
    Group(name, sort_key=place)
    for place, name in enumerate(("Get", "Convert", "Look", "Check", "Options"))
)
_UNCHANGED = "Nothing was changed; the same command begins anew."
_FILES = (
    "Files that are whole are kept, and so is what has come of others; the same command goes on."
)
_PARTS = "Parts that are whole stay in the store; the same command goes on with the others."
_DEMO = "--store laion-zarr-demo/laion-fmri.zarr"
_SOURCE = "--source laion-zarr-demo/data"


class Command(NamedTuple):
    """A command: where ``--help`` lists it, an example, and what Ctrl-C leaves."""

    name: str
    run: Callable[..., int]
    group: Group
    example: str
    interrupted: str = _UNCHANGED


COMMANDS = (
    Command("config", store.configure, _GET, "--data-dir laion-zarr-demo/data"),
    Command("demo", store.demo, _GET, "--dir laion-zarr-demo", "The same command makes it anew."),
    Command("subjects", download.subjects, _GET, "--json"),
    Command("rois", download.rois, _GET, "--subject sub-01 --category face"),
    Command("download", download.download, _GET, "--subject sub-01 --ses 01 02", _FILES),
    Command(
        *("download-raw", download.download_raw, _GET),
        *("--subject sub-01 --ses 01 --suffix events", _FILES),
    ),
    Command("download-stimuli", download.download_stimuli, _GET, "--accept-license", _FILES),
    Command("download-embeddings", download.download_embeddings, _GET, "--models CLIP", _FILES),
    Command("download-segmentations", download.download_segmentations, _GET, "--quiet", _FILES),
    Command("download-captions", download.download_captions, _GET, "--quiet", _FILES),
    Command("request-access", download.request_access, _GET, ""),
    Command("convert", store.convert, _CONVERT, f"{_SOURCE} {_DEMO} --subject sub-01", _PARTS),
    Command("info", store.info, _LOOK, f"{_DEMO} --subject sub-01"),
    Command("explore", store.explore, _LOOK, f"{_DEMO} --no-browser"),
    Command("verify", store.verify, _CHECK, f"{_DEMO} {_SOURCE} --deep"),
    Command("outdated", store.outdated, _CHECK, f"{_SOURCE} {_DEMO}"),
)
SPLITS = Command(
    "add",
    store.add_splits,
    _CONVERT,
    f"laion-zarr-demo/splits {_DEMO}",
    "The same command goes on.",
)


def _application() -> App:
    """The application with all its commands."""
    app = App(
        name="laion-zarr",
        help="LAION-fMRI as one Zarr store: convert it, look at it.",
        help_epilogue=(
            "'laion-zarr COMMAND --help' shows the options of a command and an example.\n"
            "'laion-zarr demo' makes a store of synthetic data, to begin with; in Python:\n"
            "laion_zarr.load_subject('01', store='laion-zarr-demo/laion-fmri.zarr')"
        ),
        help_format="plaintext",
        version=lambda: version("laion-zarr"),
        default_parameter=Parameter(negative=(), allow_repeating=True, show_default=False),
    )
    splits = App(name="splits", help="Train/test splits in the store.", group=_CONVERT)
    for parent, prefix, command in (
        *((app, "laion-zarr", command) for command in COMMANDS),
        (splits, "laion-zarr splits", SPLITS),
    ):
        words = f"{prefix} {command.name} {command.example}".rstrip()
        example = words.replace(f" {_DEMO}", f" \\\n    {_DEMO}")  # to be pasted whole
        parent.command(
            *(command.run, command.name),
            group=command.group if parent is app else None,
            help_epilogue=f"Example:\n  {example}",
        )
    app.command(splits)
    app.register_install_completion_command(
        group=_OPTIONS, help="Install the completion of commands, options and values."
    )
    for flag in ("--help", "--version"):
        app[flag].group = (_OPTIONS,)
    app.meta.default(_launch)
    return app


def _launch(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    debug: Annotated[
        bool, Parameter(group=_OPTIONS, help="show the traceback of an error")
    ] = False,
) -> int:
    """Run the command of a line, with the option that all commands have."""
    run, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    if run == app.help_print:
        app.help_print(words, console=app.error_console)
        return MISUSED
    try:
        return run(*bound.args, **bound.kwargs) or DONE
    except KeyboardInterrupt:
        left = {command.run: command.interrupted for command in (*COMMANDS, SPLITS)}
        print(f"Interrupted. {left.get(run, _UNCHANGED)}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the process that reads stdout, such as ``head``, has ended
        return FAILED
    except (LaionZarrError, ValueError, OSError, ImportError) as error:
        if debug:
            raise
        complain(error)
        return FAILED


app = _application()


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``laion-zarr`` and return its exit code, 0 only if everything asked for is done."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # its encoding may lack some characters
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        found = app.meta(
            words, exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        complain(error)
        raise SystemExit(MISUSED) from None
    except KeyboardInterrupt:  # before a command has begun
        print(f"Interrupted. {_UNCHANGED}", file=sys.stderr)
        return INTERRUPTED
    return found or DONE
