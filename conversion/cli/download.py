"""Commands of ``laion-zarr`` that send requests to the bucket or to the access service."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from laion_zarr.download.filters import Given

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
    Command = Callable[[Commands, str, str], argparse.ArgumentParser]

_RAW_FILTERS = {
    "ses": "sessions, such as 04, or 'averages' for the files of no session",
    "run": "such as 01",
    "task": "such as images",
    "echo": "such as 1",
    "part": "mag or phase",
    "suffix": "such as events",
    "extension": "such as tsv",
}
_FILTERS = {
    "ses": "sessions, such as 04, or 'averages' for the files of no session",
    "task": "such as images",
    "space": "such as T1w",
    "desc": "such as SingletrialBetas",
    "stat": "such as effect",
    "suffix": "such as statmap",
    "extension": "such as nii.gz",
}


def add(commands: Commands, command: Command) -> None:
    """Add the commands; `command` makes the parser of one command from its name and help text."""
    _add_discovery(commands, command)
    _add_download(commands, command)
    for name, text, run in (
        ("stimuli", "Download the stimulus images (needs access: request-access).", _stimuli),
        ("embeddings", "Download embeddings of the images.", _embeddings),
        ("segmentations", "Download the segmentation masks of the images.", _segmentations),
        ("captions", "Download the captions of the images.", _captions),
    ):
        parser = command(commands, f"download-{name}", text)
        if name == "embeddings":
            parser.add_argument("--models", nargs="+", action="extend", help="only these")
            text = "an earlier generation: v1, which was replaced in September 2026"
            parser.add_argument("--revision", help=text)
        _add_common(parser)
        parser.set_defaults(run=run)
    parser = command(commands, "request-access", "Request access to the stimulus images.")
    parser.set_defaults(run=_request_access)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--accept-license", action="store_true", help="accept the dataset's licence (CC0) unasked"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_discovery(commands: Commands, command: Command) -> None:
    parser = command(commands, "subjects", "List the subjects in the bucket.")
    parser.set_defaults(run=_subjects)
    parser = command(commands, "rois", "List the ROIs of a subject in the bucket.")
    parser.add_argument("--subject", help="such as sub-01 (default: the first)")
    parser.add_argument("--category", help="only those of this category, such as face")
    parser.set_defaults(run=_rois)


def _subjects(arguments: argparse.Namespace) -> int:
    from laion_zarr.discovery import get_subjects

    print("\n".join(get_subjects()))
    return 0


def _rois(arguments: argparse.Namespace) -> int:
    from laion_zarr.discovery import get_rois

    print("\n".join(get_rois(arguments.subject, arguments.category)))
    return 0


def _add_download(commands: Commands, command: Command) -> None:
    parser = command(commands, "download", "Download subjects, or parts of them.")
    _add_selection(parser, _FILTERS)
    parser.add_argument("--include-stimuli", action="store_true", help="the images, too")
    parser.add_argument(
        "--include-anatomical", action="store_true", help="all anatomical images, too"
    )
    parser.add_argument(
        "--include-freesurfer", action="store_true", help="the FreeSurfer recon, too"
    )
    parser.add_argument("--include-localizers", action="store_true", help="localizer maps, too")
    parser.add_argument("--include-raw", action="store_true", help="raw data, too")
    parser.add_argument("--include-bold", action="store_true", help="preprocessed time series, too")
    _add_jobs(parser)
    parser.set_defaults(run=_download)
    parser = command(commands, "download-raw", "Download raw data of subjects, or parts of them.")
    _add_selection(parser, _RAW_FILTERS)
    _add_jobs(parser)
    parser.set_defaults(run=_raw)


def _add_selection(parser: argparse.ArgumentParser, filters: dict[str, str]) -> None:
    parser.add_argument(
        "--subject", nargs="+", action="extend", required=True, help="such as sub-01, or 'all'"
    )
    for name, text in filters.items():
        # `run` is the name of a command's function, see `_parser`.
        parser.add_argument(f"--{name}", dest=f"only_{name}", nargs="+", action="extend", help=text)


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--n-jobs", type=int, default=4, help="files at a time (default: %(default)s)"
    )
    _add_common(parser)


def _license(arguments: argparse.Namespace) -> None:
    from laion_zarr.download import license

    if arguments.accept_license and not license.is_accepted():
        license.keep()


def _download(arguments: argparse.Namespace) -> int:
    from laion_zarr.download.dataset import run_download

    _license(arguments)
    report = run_download(
        _subjects_of(arguments),
        _selection(arguments, _FILTERS),
        arguments.include_stimuli,
        arguments.include_anatomical,
        arguments.include_freesurfer,
        arguments.include_localizers,
        arguments.include_raw,
        arguments.include_bold,
        arguments.n_jobs,
        progress=not arguments.quiet,
    )
    print(report)
    return 0


def _selection(arguments: argparse.Namespace, filters: Iterable[str]) -> dict[str, Given]:
    return {name: getattr(arguments, f"only_{name}") for name in filters}


def _subjects_of(arguments: argparse.Namespace) -> str | list[str]:
    return "all" if "all" in arguments.subject else arguments.subject


def _raw(arguments: argparse.Namespace) -> int:
    from laion_zarr.download.raw import run_raw

    _license(arguments)
    given = _selection(arguments, _RAW_FILTERS)
    print(run_raw(_subjects_of(arguments), given, arguments.n_jobs, not arguments.quiet))
    return 0


def _stimuli(arguments: argparse.Namespace) -> int:
    from laion_zarr.download.dataset import run_stimuli

    _license(arguments)
    print(run_stimuli(not arguments.quiet))
    return 0


def _embeddings(arguments: argparse.Namespace) -> int:
    from laion_zarr.download.dataset import run_embeddings

    _license(arguments)
    print(run_embeddings(arguments.models, arguments.revision, not arguments.quiet))
    return 0


def _segmentations(arguments: argparse.Namespace) -> int:
    from laion_zarr.download.dataset import run_segmentations

    _license(arguments)
    print(run_segmentations(not arguments.quiet))
    return 0


def _captions(arguments: argparse.Namespace) -> int:
    from laion_zarr.download.dataset import run_captions

    _license(arguments)
    print(run_captions(not arguments.quiet))
    return 0


def _request_access(arguments: argparse.Namespace) -> int:
    from laion_zarr.download import request_stimulus_access

    request_stimulus_access()
    return 0
