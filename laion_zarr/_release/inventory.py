"""The files that the converter reads for one subject, found among the file names of a mirror."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from laion_zarr._release.ids import (
    FINE_RES,
    FUNCTIONAL_RES,
    HEMIS,
    VOLUME_RESOLUTIONS,
    is_public,
)
from laion_zarr._release.layout import CATEGORY
from laion_zarr._release.names import (
    ANATOMY_KINDS,
    LOCALIZERS,
    RECON_CURVATURE,
    RECON_GEOMETRY,
    ROIS,
    SESSION_MAPS,
    SURFACE_FORMATS,
    anatomy,
    betas,
    glm_dir,
    noise_ceiling,
    r2mean,
    recon_surface,
    recon_talairach,
    recon_volume,
    roi_surface,
    roi_volume,
    session_map,
    trials,
)
from laion_zarr._release.raw import TEDANA, raw_dir

_RUN = r"\d\d|[1-9]\d\d+"  # two digits, more if need be: one spelling of each number


@dataclass(frozen=True)
class SessionFiles:
    """Files of one session in a mirror: relative paths, None for missing files."""

    betas: str | None
    trials: str | None
    maps: Mapping[str, str]


@dataclass(frozen=True)
class RoiFiles:
    """Files of one ROI in a mirror: relative paths, None for missing files."""

    category: str
    volume: str | None
    surfaces: Mapping[tuple[str, str], str]  # (hemi, format) -> path
    fine: str | None = None  # the volume on the grid of `FINE_RES`


@dataclass(frozen=True, order=True)
class LocalizerName:
    """What a localizer map shows, and where: the entities of its file name.

    Attributes
    ----------
    task, session, contrast : str
        Task, session (``ses-…``), and contrast, or condition for effects.
    stat : str
        ``"z"`` or ``"effect"``.
    run : int
        Run; 0 for a map of all runs.
    place : str
        Hemisphere, for a surface map, or resolution of a volume.
    """

    task: str
    session: str
    contrast: str
    stat: str
    run: int
    place: str


Runs = Mapping[tuple[str, int], str]  # (session, run) -> path


@dataclass(frozen=True)
class SubjectFiles:
    """Files of one subject in a mirror: relative paths; missing files are None or have no key.

    Attributes
    ----------
    contested : mapping
        ROIs that several categories have, with the files of each; they are not in `rois`.
    recon : mapping
        Files of the FreeSurfer recon, by hemisphere and name; the hemisphere of the volume and of
        the affine to MNI305 is None.
    """

    subject: str
    sessions: Mapping[str, SessionFiles]
    r2mean: str | None
    noise_ceilings: Mapping[str, str]
    anatomy: Mapping[tuple[str, str | None], str]  # (kind, res) -> path
    rois: Mapping[str, RoiFiles]
    contested: Mapping[str, tuple[RoiFiles, ...]]
    localizers: Mapping[LocalizerName, str]
    recon: Mapping[tuple[str | None, str], str]
    events: Runs
    bold: Runs


def _present(path: PurePosixPath, names: Collection[str]) -> str | None:
    """Path of an existing file: ``.nii.gz`` as released, or unpacked ``.nii``; None if missing."""
    for candidate in (str(path), str(path).removesuffix(".gz")):
        if candidate in names:
            return candidate
    return None


def _session_files(subject: str, session: str, names: Collection[str]) -> SessionFiles:
    maps = {name: _present(session_map(subject, session, name), names) for name in SESSION_MAPS}
    return SessionFiles(
        betas=_present(betas(subject, session), names),
        trials=_present(trials(subject, session), names),
        maps={name: path for name, path in maps.items() if path is not None},
    )


def _roi_files(subject: str, category: str, roi: str, names: Collection[str]) -> RoiFiles:
    surfaces = {
        (hemi, fmt): str(roi_surface(subject, category, roi, hemi, fmt))
        for hemi in HEMIS
        for fmt in SURFACE_FORMATS
    }
    volume, fine = (
        _present(roi_volume(subject, category, roi, res), names)
        for res in (FUNCTIONAL_RES, FINE_RES)
    )
    surfaces = {key: path for key, path in surfaces.items() if path in names}
    return RoiFiles(category, volume, surfaces, fine)


def _rois(subject: str, names: Collection[str]) -> dict[str, tuple[RoiFiles, ...]]:
    """Files of each ROI; those of each category, if several have an ROI of the name."""
    pattern = re.compile(
        rf"{ROIS}/{subject}/(?P<category>{CATEGORY})/{subject}_.*label-(?P<roi>[A-Za-z0-9]+)_mask\."
    )
    matches = filter(None, map(pattern.match, names))
    found: dict[str, list[RoiFiles]] = {}
    for roi, category in sorted({(match["roi"], match["category"]) for match in matches}):
        its = _roi_files(subject, category, roi, names)
        if its.surfaces or its.volume is not None or its.fine is not None:
            found.setdefault(roi, []).append(its)
    return {roi: tuple(its) for roi, its in found.items()}


def _localizers(subject: str, names: Collection[str]) -> dict[LocalizerName, str]:
    """Localizer maps; of a map that is there packed and unpacked, the packed file."""
    word = "[A-Za-z0-9]+"
    pattern = re.compile(
        rf"{LOCALIZERS}/{subject}/(?P<ses>ses-{word})/func/{subject}_(?P=ses)_task-(?P<task>{word})"
        rf"(_run-(?P<run>{_RUN}))?"
        rf"_(hemi-(?P<hemi>[LR])_space-fsnative|space-T1w_res-(?P<res>{'|'.join(VOLUME_RESOLUTIONS)}))"
        rf"_contrast-(?P<contrast>{word})_stat-(?P<stat>z|effect)_statmap\.(func\.gii|nii(\.gz)?)"
    )
    found = {}
    for match in filter(None, map(pattern.fullmatch, sorted(names))):
        run, place = int(match["run"] or 0), match["hemi"] or match["res"]
        what = LocalizerName(
            match["task"], match["ses"], match["contrast"], match["stat"], run, place
        )
        found[what] = match[0]
    return dict(sorted(found.items()))


def _recon(subject: str, names: Collection[str]) -> dict[tuple[str | None, str], str]:
    wanted: dict[tuple[str | None, str], PurePosixPath] = {
        (hemi, name): recon_surface(subject, hemi, name)
        for hemi in HEMIS
        for name in (*RECON_GEOMETRY, RECON_CURVATURE)
    }
    for path in (recon_volume(subject), recon_talairach(subject)):
        wanted[None, path.stem] = path
    return {key: str(path) for key, path in wanted.items() if str(path) in names}


def _runs(folder: PurePosixPath, tail: str, names: Collection[str]) -> dict[tuple[str, int], str]:
    """Files of the runs of all public sessions below a subject's folder; `tail` is a pattern."""
    pattern = re.compile(
        rf"{folder}/(?P<ses>ses-\w+)/func/{folder.name}_(?P=ses)_task-images_run-(?P<run>{_RUN})_{tail}"
    )
    matches = filter(None, map(pattern.fullmatch, sorted(names)))
    found = {(match["ses"], int(match["run"])): match[0] for match in matches}
    return {key: path for key, path in sorted(found.items()) if is_public(key[0])}


def subject_files(subject: str, names: Collection[str]) -> SubjectFiles:
    """Find the files that the converter reads for one subject among the file names of a mirror.

    Parameters
    ----------
    subject : str
        Subject id, such as ``"sub-01"``.
    names : collection of str
        Paths relative to the root of the mirror; paths of other files are ignored.
    """
    folders = re.compile(rf"{glm_dir(subject)}/(ses-[A-Za-z0-9]+)/func/")
    sessions = sorted({match[1] for match in map(folders.match, names) if match})
    descs = re.compile(
        rf"{glm_dir(subject)}/{subject}_task-images_space-T1w_desc-(Noiseceiling\w+)_statmap\.nii"
    )
    noise_ceilings = {match[1] for match in map(descs.match, names) if match}
    anatomical = {
        (kind, res): _present(anatomy(subject, kind, res), names)
        for kind in ANATOMY_KINDS
        for res in (FUNCTIONAL_RES, None)
    }
    rois = _rois(subject, names)
    return SubjectFiles(
        subject=subject,
        sessions={ses: _session_files(subject, ses, names) for ses in sessions if is_public(ses)},
        r2mean=_present(r2mean(subject), names),
        noise_ceilings={
            desc: path
            for desc in sorted(noise_ceilings)
            if (path := _present(noise_ceiling(subject, desc), names)) is not None
        },
        anatomy={key: path for key, path in anatomical.items() if path is not None},
        rois={roi: its[0] for roi, its in rois.items() if len(its) == 1},
        contested={roi: its for roi, its in rois.items() if len(its) > 1},
        localizers=_localizers(subject, names),
        recon=_recon(subject, names),
        events=_runs(raw_dir(subject), r"events\.tsv", names),
        bold=_runs(TEDANA / subject, r"space-T1w_desc-optcom_bold\.nii(\.gz)?", names),
    )
