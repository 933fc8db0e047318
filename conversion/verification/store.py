"""Checks of a whole store: structure, checksums and, optionally, values against the source."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import zarr
from zarr.abc.store import Store

from laion_zarr import config
from laion_zarr.conversion.options import VerifyReport
from laion_zarr.conversion.verification.checks import Check
from laion_zarr.conversion.verification.stimuli import SplitChecks, StimulusChecks
from laion_zarr.conversion.verification.subjects import SubjectChecks
from laion_zarr.errors import DataNotDownloadedError, NotConvertedError, StoreError
from laion_zarr.store import schema
from laion_zarr.store.manifest import parse_manifest, parse_root, read_texts
from laion_zarr.store.objects import StoreLike, damaged, open_store
from laion_zarr.store.schema import MANIFEST


def verify(
    store: StoreLike | None = None,
    source: str | Path | None = None,
    deep: bool = False,
    *,
    storage_options: dict[str, Any] | None = None,
    progress: bool = True,
) -> VerifyReport:
    """Check structure, completeness and every checksum of a store.

    Parameters
    ----------
    store : str, Path or zarr.abc.store.Store, optional
        If not provided, `laion_zarr.config.get_store`.
    source : str or Path, optional
        Data directory: also check that the source files in it are those that were converted.
    deep : bool
        Read the source again and compare every value. If `source` is not provided,
        `laion_zarr.config.get_data_dir`.
    storage_options : dict, optional
        Options of fsspec for a store at a URL.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    VerifyReport
        Report of what was checked; its list of problems is empty.

    Raises
    ------
    StoreError
        If anything is wrong; the message lists all problems, file by file, and how to repair each.

    Examples
    --------
    >>> from laion_zarr import verify
    >>> verify(progress=False).problems
    []
    """
    report = run_verification(store, source, deep, storage_options, progress)
    if report.problems:
        lines = "\n".join(f"- {problem}" for problem in report.problems)
        raise StoreError(f"{len(report.problems)} problems:\n{lines}")
    return report


def run_verification(
    store: StoreLike | None,
    source: str | Path | None,
    deep: bool,
    storage_options: dict[str, Any] | None,
    progress: bool,
) -> VerifyReport:
    """Do what `verify` does, but return the problems in the report instead of raising an error."""
    opened = open_store(config.get_store() if store is None else store, storage_options)
    folder = Path(source) if source else config.get_data_dir() if deep else None
    if folder is not None and not folder.is_dir():
        raise DataNotDownloadedError(f"{folder} is not a folder; --source names the mirror.")
    report = VerifyReport(deep=deep)
    _check_root(opened)
    with _default_zarr():
        check = Check(opened, report, folder, progress)
        check.files()
        # Contents are checked only if all bytes are right: else each error would be reported twice.
        if not report.problems:
            groups = [_checks(check, group) for group in check.groups]
            for name, group in zip(check.groups, groups, strict=True):
                _check_contents(check, name, group)
            sound = not report.problems
            if folder is not None:
                check.sources()
            if deep and sound:
                for group in groups:
                    group.values()
    return report


def _check_contents(
    check: Check, name: str, group: SubjectChecks | StimulusChecks | SplitChecks
) -> None:
    try:
        group.contents()
    except Exception as error:  # of numpy, pandas or zarr, at what no check has foreseen
        what = f"holds arrays that contradict one another ({type(error).__name__}: {error})"
        check.problem(str(damaged(check.store, f"{name}/{MANIFEST}", what)))


def _checks(check: Check, group: str) -> SubjectChecks | StimulusChecks | SplitChecks:
    match group:
        case schema.STIMULI_GROUP:
            return StimulusChecks(check)
        case schema.SPLITS_GROUP:
            return SplitChecks(check)
        case _:
            return SubjectChecks(check, group)


def _check_root(store: Store) -> None:
    """Raise if this is no store; a damaged root that has a manifest is left to `Check.files`."""
    root, manifest = read_texts(store, ["zarr.json", MANIFEST])
    try:
        parse_root(store, root)
    except (StoreError, NotConvertedError) as error:
        try:
            parse_manifest(store, MANIFEST, manifest or b"")
        except StoreError:
            raise error from None


def _default_zarr() -> AbstractContextManager[object]:
    """Use zarr's default codecs and buffers: those of a user's settings may hide damage."""
    (defaults,) = zarr.config.defaults[:1]
    names = ("array", "buffer", "codec_pipeline", "codecs", "ndbuffer")
    return zarr.config.set({name: copy.deepcopy(defaults[name]) for name in names})
