"""Commands of ``laion-zarr`` that send requests to the bucket or to the access service."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
    Command = Callable[[Commands, str, str], argparse.ArgumentParser]

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
    parser.add_argument(
        "--subject", nargs="+", action="extend", required=True, help="such as sub-01, or 'all'"
    )
    for name, text in _FILTERS.items():
        parser.add_argument(f"--{name}", nargs="+", action="extend", help=text)
    parser.add_argument("--include-stimuli", action="store_true", help="the images, too")
    parser.add_argument(
        "--include-anatomical", action="store_true", help="all anatomical images, too"
    )
    parser.add_argument(
        "--include-freesurfer", action="store_true", help="the FreeSurfer recon, too"
    )
    parser.add_argument("--include-localizers", action="store_true", help="localizer maps, too")
    parser.add_argument(
        "--n-jobs", type=int, default=4, help="files at a time (default: %(default)s)"
    )
    _add_common(parser)
    parser.set_defaults(run=_download)


def _license(arguments: argparse.Namespace) -> None:
    from laion_zarr.download import license

    if arguments.accept_license and not license.is_accepted():
        license.keep()


def _download(arguments: argparse.Namespace) -> int:
    from laion_zarr.download.dataset import run_download

    _license(arguments)
    report = run_download(
        "all" if "all" in arguments.subject else arguments.subject,
        {name: getattr(arguments, name) for name in _FILTERS},
        arguments.include_stimuli,
        arguments.include_anatomical,
        arguments.include_freesurfer,
        arguments.include_localizers,
        arguments.n_jobs,
        progress=not arguments.quiet,
    )
    print(report)
    return 0


def _stimuli(arguments: argparse.Namespace) -> int:
    from laion_zarr.download.dataset import run_stimuli

    _license(arguments)
    print(run_stimuli(not arguments.quiet))
    return 0


def _embeddings(arguments: argparse.Namespace) -> int:
    from laion_zarr.download.dataset import run_embeddings

    _license(arguments)
    print(run_embeddings(arguments.models, not arguments.quiet))
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
