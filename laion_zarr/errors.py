"""Errors that laion_zarr raises; every message states the problem and a remedy."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec


class LaionZarrError(Exception):
    """Base class of every error that laion_zarr raises on purpose.

    A notebook shows of it where the user's own code was, and the message: not the frames of this
    package and of Dask between them.
    """

    def _render_traceback_(self) -> list[str]:
        """Lines that IPython shows in place of a traceback."""
        packages = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
        shown = []
        for frame, line in traceback.walk_tb(self.__traceback__):
            code, room = frame.f_code, str(frame.f_globals.get("__name__")).partition(".")[0]
            if room != "laion_zarr" and not code.co_filename.startswith((*packages, "<frozen")):
                shown.append(traceback.FrameSummary(code.co_filename, line, code.co_name))
        return [*traceback.format_list(shown), *traceback.format_exception_only(self)]


class DataDirNotSetError(LaionZarrError, RuntimeError):
    """Neither a store nor a data directory is set."""


class DataNotDownloadedError(LaionZarrError, FileNotFoundError):
    """A file of the dataset is not in the local mirror."""


class NotConvertedError(DataNotDownloadedError):
    """There is no store, or the store does not hold a subject, session or part."""


class StimuliNotDownloadedError(LaionZarrError, FileNotFoundError):
    """The stimuli are neither in the store nor in the mirror."""


class SubjectNotFoundError(LaionZarrError, ValueError):
    """A value is not a subject id: empty, ``"sub-"``, or not a string."""


class UnknownNameError(LaionZarrError, ValueError):
    """A name of nothing that is there, of an ROI, a mask, a split; the message says what is."""


class LicenseNotAcceptedError(LaionZarrError, RuntimeError):
    """The terms of use of the dataset were not accepted."""


class DownloadError(LaionZarrError, RuntimeError):
    """Some files could not be downloaded; files that were downloaded are kept.

    Attributes
    ----------
    failed : dict of str to str
        Reason of the failure, by file.
    """

    def __init__(self, failed: dict[str, str], n_untried: int, n_files: int) -> None:
        self.failed = failed
        reasons: dict[str, list[str]] = {}
        for key, reason in sorted(failed.items()):
            reasons.setdefault(reason, []).append(key)
        lines = [f"{reason}: {', '.join(keys)}" for reason, keys in reasons.items()]
        untried = f", and {n_untried:,} were not tried" if n_untried else ""
        super().__init__(
            f"{len(failed):,} of {n_files:,} files failed{untried}. What came is kept; run the "
            "same command to go on.\n" + "\n".join(lines)
        )


class AccessServiceError(LaionZarrError, RuntimeError):
    """The access service for the stimulus images refused a request or failed."""


class TermsOutdatedError(AccessServiceError):
    """The accepted terms of use were superseded by newer terms."""


class SourceError(LaionZarrError, ValueError):
    """A source file is damaged or contradicts another source file."""


class StoreError(LaionZarrError):
    """A store is unreadable, damaged, or of another schema version."""


class StoreVersionError(StoreError):
    """A store has another schema version than this version of laion_zarr reads."""


def nearest(word: object, known: Iterable[str]) -> str:
    """Question for an error about an unknown word: the known word that is like it, if one is.

    Parameters
    ----------
    word : str
        The unknown word; upper and lower case make no difference.
    known : iterable of str
        The known words.

    Returns
    -------
    str
        ``" Did you mean 'face'?"``, or ``""`` if none is like it.
    """
    by_case = {one.lower(): one for one in known}
    near = get_close_matches(str(word).lower(), by_case, 1)
    return f" Did you mean {by_case[near[0]]!r}?" if near else ""


def needs(extra: str, *packages: str) -> None:
    """Raise an ImportError that names the extra to install, if one of its packages is missing."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise ImportError(
            f"This needs {' and '.join(missing)}. Install the extra: "
            f'pip install "laion-zarr[{extra}]".'
        )
