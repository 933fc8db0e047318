"""File names of raw BIDS data (events, echoes, references) and of preprocessed time series."""

from __future__ import annotations

from pathlib import PurePosixPath

from laion_zarr._release.names import ANATOMY, FREESURFER, GLM, LOCALIZERS, ROIS

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


def subject_folders(subject: str) -> tuple[PurePosixPath, ...]:
    """Folders that hold the files of a subject that the converter may read."""
    return (*(folder / subject for folder in DERIVATIVES), raw_dir(subject))
