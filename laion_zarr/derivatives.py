"""Paths of localizer maps in the local mirror, for scripts that read the files themselves.

``download(…, include_localizers=True)`` fetches the maps. The names of tasks, contrasts, conditions
and sessions are those of the files; an error lists the names that are there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from laion_zarr import _release as release
from laion_zarr import config
from laion_zarr._release import Id
from laion_zarr.errors import DataNotDownloadedError

#: Tasks of the localizers: categories, objects, and motion (pooled, left and right hemifield).
LOCALIZER_TASKS = release.LOCALIZER_TASKS
#: Resolutions of volume maps; ``"1pt8"`` is the grid of the betas.
VOLUME_RESOLUTIONS = release.VOLUME_RESOLUTIONS

PathLike = str | os.PathLike[str]


def localizer_statmap_path(
    subject: Id,
    task: str,
    contrast: str,
    session: Id,
    space: str = "fsnative",
    hemi: str | None = None,
    res: str = "1pt5",
    data_dir: PathLike | None = None,
) -> Path:
    """Path of the z map of one localizer contrast, over all runs of the task.

    Parameters
    ----------
    subject : str or int
        ``"sub-01"``, ``"01"`` or 1.
    task : str
        Task of the localizer, such as ``"floc"``; `LOCALIZER_TASKS` has those of the release.
    contrast : str
        Contrast, such as ``"faceVsOthers"``.
    session : str or int
        Session of the localizer, such as ``"4BarScreenfLoc"``, with or without ``ses-``.
    space : str, optional
        ``"fsnative"`` for the subject's surface, which needs `hemi`; ``"T1w"`` for the volume, a
        GLM of its own.
    hemi : str, optional
        ``"L"`` or ``"R"``.
    res : str, optional
        Resolution of the volume, one of `VOLUME_RESOLUTIONS`: ``"1pt8"`` is the grid of the betas.
    data_dir : str or os.PathLike, optional
        Root of the mirror. If not provided, the data directory that is set.

    Returns
    -------
    pathlib.Path
        An existing file: ``.func.gii`` with one float32 per vertex, or a 3-D ``.nii.gz``.

    Raises
    ------
    DataNotDownloadedError
        If the file is not in the mirror; it is a `FileNotFoundError`.
    ValueError
        If `space`, `hemi` or `res` is none of the values above.

    Examples
    --------
    >>> from laion_zarr.derivatives import localizer_statmap_path
    >>> path = localizer_statmap_path(
    ...     "sub-03", "floc", "faceVsOthers", "4BarScreenfLoc", hemi="L"
    ... )  # doctest: +SKIP
    """
    place = _place(space, hemi, res)
    return _present(_root(data_dir), _key(subject, session, task, contrast, None, place))


def localizer_effect_path(
    subject: Id,
    task: str,
    condition: str,
    session: Id,
    run: Id,
    space: str = "fsnative",
    hemi: str | None = None,
    res: str = "1pt5",
    data_dir: PathLike | None = None,
) -> Path:
    """Path of the effect of one localizer condition in one run, in % signal change.

    Parameters
    ----------
    subject : str or int
        ``"sub-01"``, ``"01"`` or 1.
    task : str
        Task of the localizer, such as ``"floc"``; the pooled task ``"MotionLoc"`` has no runs.
    condition : str
        Condition, such as ``"face"``.
    session : str or int
        Session of the localizer, such as ``"4BarScreenfLoc"``, with or without ``ses-``.
    run : int or str
        Number of the run, from 1.
    space, hemi, res, data_dir : optional
        As for `localizer_statmap_path`.

    Returns
    -------
    pathlib.Path
        An existing file: ``.func.gii`` with one float32 per vertex, or a 3-D ``.nii.gz``.

    Raises
    ------
    DataNotDownloadedError
        If the file is not in the mirror; it is a `FileNotFoundError`.
    ValueError
        If `run`, `space`, `hemi` or `res` has an impossible value.

    Examples
    --------
    >>> from laion_zarr.derivatives import localizer_effect_path
    >>> path = localizer_effect_path(
    ...     "sub-03", "floc", "face", "4BarScreenfLoc", run=1, space="T1w", res="1pt8"
    ... )  # doctest: +SKIP
    """
    number = release.run_number(run)
    place = _place(space, hemi, res)
    return _present(_root(data_dir), _key(subject, session, task, condition, number, place))


def _place(space: str, hemi: str | None, res: str) -> str:
    """Hemisphere of a surface map, or resolution of a volume map."""
    for name, value, allowed in (
        ("space", space, ("fsnative", "T1w")),
        ("hemi", hemi, release.HEMIS if space == "fsnative" else (None, *release.HEMIS)),
        ("res", res, VOLUME_RESOLUTIONS),
    ):
        if value not in allowed:
            expected = " or ".join(repr(one) for one in allowed if one is not None)
            raise ValueError(f"{name}={value!r}: expected {expected} for space={space!r}.")
    return str(hemi) if space == "fsnative" else res


def _key(
    subject: Id, session: Id, task: str, contrast: str, run: int | None, place: str
) -> PurePosixPath:
    found, ses = release.subject_id(subject), release.session_id(session)
    return release.localizer_map(found, ses, task, contrast, run, place)


def _root(data_dir: PathLike | None) -> Path:
    return config.get_data_dir() if data_dir is None else Path(data_dir)


def _present(root: Path, key: PurePosixPath) -> Path:
    path = root / key
    if path.is_file():
        return path
    wanted = release.parse_key(str(key)).entities
    folder = release.LOCALIZERS / f"sub-{wanted['sub']}"
    maps = sorted((root / folder).rglob(f"sub-{wanted['sub']}_*.*"))
    there = [one.name for one in maps if not one.name.endswith(".json")]
    message = f"{path} is not there. "
    if not there:
        raise DataNotDownloadedError(
            f"{message}Run 'laion-zarr download --subject sub-{wanted['sub']} "
            "--include-localizers'."
        )
    raise DataNotDownloadedError(message + _nearest(wanted, there))


def _nearest(wanted: Mapping[str, str], there: list[str]) -> str:
    """Values that a mirror has for the first entity of a file name that it lacks."""
    others = [release.parse_key(name).entities for name in there]
    for entity in ("ses", "task", "stat", "run", "space", "res", "hemi", "contrast"):
        fitting = [one for one in others if one.get(entity) == wanted.get(entity)]
        if not fitting:
            values = sorted({one[entity] for one in others if entity in one})
            return f"There is no {entity} {wanted.get(entity)!r}; there is: {', '.join(values)}."
        others = fitting
    return "Download the subject's localizer maps again."
