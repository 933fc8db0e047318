"""File names of raw BIDS data (events, echoes, references) and of preprocessed time series."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import PurePosixPath

from laion_zarr._release.names import (
    ANATOMY,
    EMBEDDING_ARCHIVE,
    FREESURFER,
    GLM,
    LOCALIZERS,
    ROIS,
    STIMULI,
)

TEDANA = PurePosixPath("derivatives/tedana")
ECHO_PARTS = ("mag", "phase")


def raw_dir(subject: str) -> PurePosixPath:
    """Folder of the raw BIDS data of a subject."""
    return PurePosixPath(subject)


def _run_name(subject: str, session: str, run: int) -> str:
    return f"{subject}_{session}_task-images_run-{run:02d}"


def _raw_file(subject: str, session: str, run: int, tail: str) -> PurePosixPath:
    name = f"{_run_name(subject, session, run)}_{tail}"
    return raw_dir(subject) / session / "func" / name


def events(subject: str, session: str, run: int) -> PurePosixPath:
    """File of the events of one run: one row per trial, blank trials too."""
    return _raw_file(subject, session, run, "events.tsv")


def bold(subject: str, session: str, run: int) -> PurePosixPath:
    """File of the preprocessed time series of one run, 4-D, on the functional grid."""
    name = f"{_run_name(subject, session, run)}_space-T1w_desc-optcom_bold.nii.gz"
    return TEDANA / subject / session / "func" / name


def echo_number(value: object) -> int:
    """Number of an echo: 1, ``"1"`` or ``"echo-1"`` -> 1."""
    bare = str(value).removeprefix("echo-")
    if isinstance(value, bool) or not bare.isdecimal() or int(bare) < 1:
        raise ValueError(f"echo={value!r}: expected the number of an echo, from 1.")
    return int(bare)


def raw_bold(subject: str, session: str, run: int, echo: int, part: str) -> PurePosixPath:
    """File of one echo of a run as scanned; `part` is one of `ECHO_PARTS`."""
    return _raw_file(subject, session, run, f"echo-{echo}_part-{part}_bold.nii.gz")


def sbrefs(subject: str, session: str, run: int, echo: int) -> tuple[PurePosixPath, PurePosixPath]:
    """Names that the single-band reference of one echo may have, the one with ``part-`` first."""
    tails = (f"echo-{echo}_part-mag_sbref.nii.gz", f"echo-{echo}_sbref.nii.gz")
    first, second = (_raw_file(subject, session, run, tail) for tail in tails)
    return first, second


# Derivatives that the converter reads, each with a folder per subject.
DERIVATIVES = (GLM, ROIS, ANATOMY, LOCALIZERS, FREESURFER, TEDANA)


RAW = PurePosixPath()  # the root of the dataset, in which each subject has a folder of raw data
STIMULUS_FOLDERS = (STIMULI, EMBEDDING_ARCHIVE)
FOLDERS = (*DERIVATIVES, RAW, *STIMULUS_FOLDERS)  # of all files that the converter reads


def folders_to_list(
    folders: Iterable[PurePosixPath], subjects: Collection[str] | None, there: Collection[str]
) -> list[PurePosixPath]:
    """Folders to list for the files of some subjects.

    Parameters
    ----------
    folders : iterable of PurePosixPath
        Some of `FOLDERS`, or of other derivatives.
    subjects : collection of str or None
        Subjects whose files are wanted; None for all. The stimuli belong to no subject.
    there : collection of str
        Names in the root folder of the dataset: what lies in no folder of `there` is left out.
    """
    raw = [name for name in sorted(there) if name.startswith("sub-")]
    found: list[PurePosixPath] = []
    for folder in folders:
        if folder in STIMULUS_FOLDERS or (subjects is None and folder != RAW):
            found.append(folder)
        else:
            found += [folder / subject for subject in (raw if subjects is None else subjects)]
    return [folder for folder in dict.fromkeys(found) if folder.parts[0] in there]
