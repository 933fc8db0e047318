"""File names of the LAION-fMRI release: ids -> relative paths, and paths -> ids.

No function accesses a disk or the network, so the names serve a local mirror and the bucket alike.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from laion_zarr.errors import SubjectNotFoundError

BUCKET = "s3://laion-fmri"
SUBJECTS = ("sub-01", "sub-03", "sub-05", "sub-06", "sub-07")

GLM = PurePosixPath("derivatives/glmsingle-tedana")
ROIS = PurePosixPath("derivatives/rois")
ANATOMY = PurePosixPath("derivatives/anatomical")
FREESURFER = PurePosixPath("derivatives/freesurfer")
LOCALIZERS = PurePosixPath("derivatives/localizers")
DATASET_DESCRIPTION = "dataset_description.json"  # of the dataset, and of each derivative
PARTICIPANTS = "participants.tsv"
STIMULI = PurePosixPath("stimuli")
STIMULUS_METADATA = STIMULI / "task-images_metadata.csv"
STIMULUS_IMAGES = STIMULI / "task-images_stimuli.h5"
SEGMENTATIONS = STIMULI / "task-images_desc-segmentations.h5"
SEGMENTATION_TABLE = STIMULI / "task-images_desc-segmentations_metadata.csv"
CAPTIONS = STIMULI / "task-images_desc-captions.csv"
_EMBEDDINGS = re.compile(rf"{STIMULI}/task-images_desc-([A-Za-z0-9]+)_embeddings\.h5")

FUNCTIONAL_RES = "1pt8"
VOLUME_RESOLUTIONS = ("1pt5", FUNCTIONAL_RES)  # of localizer maps
LOCALIZER_TASKS = ("floc", "oloc", "MotionLoc", "MotionLeft", "MotionRight")
HEMIS = ("L", "R")
RECON_SURFACES = ("white", "pial")
RECON_SPHERE = "sphere.reg"
SURFACE_FORMATS = ("func.gii", "label")
ANATOMY_KINDS = {"t1w": "T1w", "t2w": "T2w", "brain_mask": "desc-brain_mask"}
# Per-session maps: name of the array in the store -> BIDS entities and suffix of the file name.
SESSION_MAPS = {
    "session_noise_ceiling": "space-T1w_desc-Noiseceiling_statmap",
    "r2": "space-T1w_stat-rsquare_desc-R2_statmap",
    "hrf_index": "space-T1w_desc-HRFindex_dseg",
    "fracridge": "space-T1w_desc-Fracridge_statmap",
}

# ses-31 and above are held out and not public: the pattern excludes them on purpose.
_PUBLIC_SESSION = re.compile(r"ses-(0[1-9]|[12]\d|30)")
_ENTITY_VALUE = re.compile(r"[A-Za-z0-9]+")


def is_bucket(url: str) -> bool:
    """Whether a URL lies in the release's bucket, which is public: accessed without credentials."""
    return url == BUCKET or url.startswith(f"{BUCKET}/")


def _entity(value: object, entity: str) -> str | None:
    """Full id: ``"01"`` or ``"sub-01"`` -> ``"sub-01"``; None if the value is not an id."""
    if not isinstance(value, str):
        return None
    bare = value.removeprefix(f"{entity}-")
    return f"{entity}-{bare}" if _ENTITY_VALUE.fullmatch(bare) else None


def subject_id(value: object) -> str:
    """Full id of a subject: ``"01"`` or ``"sub-01"`` -> ``"sub-01"``."""
    found = _entity(value, "sub")
    if found is None:
        raise SubjectNotFoundError(
            f"{value!r} is no subject id. Expected a string such as 'sub-01' or '01'; "
            f"the release has {', '.join(SUBJECTS)}."
        )
    return found


def session_id(value: object) -> str:
    """Full id of a session: ``"01"`` or ``"ses-01"`` -> ``"ses-01"``."""
    found = _entity(value, "ses")
    if found is None:
        raise ValueError(f"{value!r} is no session id. Expected a string such as 'ses-01' or '01'.")
    return found


def is_public(session: str) -> bool:
    """Whether a session is public (``ses-01`` … ``ses-30``)."""
    return _PUBLIC_SESSION.fullmatch(session) is not None


def is_held_out(session: str) -> bool:
    """Whether a session is held out from the public (``ses-31`` and above)."""
    return re.fullmatch(r"ses-(3[1-9]|[4-9]\d)", session) is not None


def glm_dir(subject: str) -> PurePosixPath:
    """Folder of the GLMsingle results of a subject, which include the betas."""
    return GLM / subject


def _session_file(subject: str, session: str, tail: str) -> PurePosixPath:
    return glm_dir(subject) / session / "func" / f"{subject}_{session}_task-images_{tail}"


def betas(subject: str, session: str) -> PurePosixPath:
    """File of the 4-D single-trial betas of one session."""
    return _session_file(
        subject, session, "space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz"
    )


def trials(subject: str, session: str) -> PurePosixPath:
    """File of the trial table of one session."""
    return _session_file(subject, session, "desc-SingletrialBetas_trials.tsv")


def session_map(subject: str, session: str, name: str) -> PurePosixPath:
    """File of a 3-D map of one session; `name` is a key of `SESSION_MAPS`."""
    return _session_file(subject, session, f"{SESSION_MAPS[name]}.nii.gz")


def r2mean(subject: str) -> PurePosixPath:
    """File of the mean R² map, whose non-zero voxels are the rsquare brain mask."""
    return (
        glm_dir(subject)
        / f"{subject}_task-images_space-T1w_stat-rsquare_desc-R2mean_statmap.nii.gz"
    )


def noise_ceiling(subject: str, desc: str) -> PurePosixPath:
    """File of a cross-session noise ceiling, e.g. `desc` = ``"Noiseceiling12rep"``."""
    return glm_dir(subject) / f"{subject}_task-images_space-T1w_desc-{desc}_statmap.nii.gz"


def anatomy_dir(subject: str) -> PurePosixPath:
    """Folder of a subject's anatomical images."""
    return ANATOMY / subject / "ses-PrismaAnat" / "anat"


def anatomy(subject: str, kind: str, res: str | None) -> PurePosixPath:
    """Anatomical image file; `kind`: a key of `ANATOMY_KINDS`, `res`: None for full resolution."""
    space = "space-T1w" if res is None else f"space-T1w_res-{res}"
    return anatomy_dir(subject) / f"{subject}_ses-PrismaAnat_{space}_{ANATOMY_KINDS[kind]}.nii.gz"


def freesurfer_dir(subject: str) -> PurePosixPath:
    """Folder of the FreeSurfer recon of a subject."""
    return FREESURFER / subject


def recon_surface(subject: str, hemi: str, name: str) -> PurePosixPath:
    """File of a recon's surface; `name` is one of `RECON_SURFACES` or `RECON_SPHERE`."""
    return freesurfer_dir(subject) / "surf" / f"{hemi.lower()}h.{name}"


def recon_volume(subject: str) -> PurePosixPath:
    """File of the volume that defines the coordinates of the recon's surfaces."""
    return freesurfer_dir(subject) / "mri" / "orig.mgz"


def recon_talairach(subject: str) -> PurePosixPath:
    """File of the recon's affine to MNI305."""
    return freesurfer_dir(subject) / "mri" / "transforms" / "talairach.lta"


def roi_volume(subject: str, category: str, roi: str) -> PurePosixPath:
    """File of an ROI mask on the functional grid."""
    name = f"{subject}_space-T1w_res-{FUNCTIONAL_RES}_label-{roi}_mask.nii.gz"
    return ROIS / subject / category / name


def roi_surface(subject: str, category: str, roi: str, hemi: str, fmt: str) -> PurePosixPath:
    """File of an ROI on the subject's surface; `fmt` is one of `SURFACE_FORMATS`."""
    name = f"{subject}_hemi-{hemi}_space-fsnative_label-{roi}_mask.{fmt}"
    return ROIS / subject / category / name


def localizer_map(
    subject: str, session: str, task: str, contrast: str, run: int | None, place: str
) -> PurePosixPath:
    """File of a localizer map: z over all runs, or the effect of a condition in one `run`.

    `place` is a hemisphere, for a surface map, or one of `VOLUME_RESOLUTIONS`.
    """
    on_surface = place in HEMIS
    where = f"hemi-{place}_space-fsnative" if on_surface else f"space-T1w_res-{place}"
    what = "stat-z" if run is None else "stat-effect"
    name = f"{where}_contrast-{contrast}_{what}_statmap.{'func.gii' if on_surface else 'nii.gz'}"
    start = f"{subject}_{session}_task-{task}" + ("" if run is None else f"_run-{run:02d}")
    return LOCALIZERS / subject / session / "func" / f"{start}_{name}"


def embeddings(model: str) -> PurePosixPath:
    """File of the embeddings of all images by one model, such as ``"CLIP"``."""
    return STIMULI / f"task-images_desc-{model}_embeddings.h5"


def embedding_files(names: Collection[str]) -> dict[str, str]:
    """Model -> embedding file, for the embedding files among the names of a mirror."""
    found = (_EMBEDDINGS.fullmatch(name) for name in sorted(names))
    return {match[1]: match[0] for match in found if match}


def sidecar(path: str) -> str:
    """File of the BIDS sidecar (JSON) of a data file."""
    for extension in (".nii.gz", ".nii", ".tsv", ".func.gii", ".csv"):
        if path.endswith(extension):
            return path.removesuffix(extension) + ".json"
    return path + ".json"


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


@dataclass(frozen=True)
class SubjectFiles:
    """Files of one subject in a mirror: relative paths; missing files are None or have no key."""

    subject: str
    sessions: Mapping[str, SessionFiles]
    r2mean: str | None
    noise_ceilings: Mapping[str, str]
    anatomy: Mapping[tuple[str, str | None], str]  # (kind, res) -> path
    rois: Mapping[str, RoiFiles]


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


def _rois(subject: str, names: Collection[str]) -> dict[str, RoiFiles]:
    pattern = re.compile(
        rf"{ROIS}/{subject}/(?P<category>[^/]+)/{subject}_.*label-(?P<roi>[A-Za-z0-9]+)_mask\."
    )
    categories = {
        match["roi"]: match["category"] for match in map(pattern.match, sorted(names)) if match
    }
    found = {}
    for roi, category in sorted(categories.items()):
        surfaces = {
            (hemi, fmt): str(roi_surface(subject, category, roi, hemi, fmt))
            for hemi in HEMIS
            for fmt in SURFACE_FORMATS
        }
        surfaces = {key: path for key, path in surfaces.items() if path in names}
        volume = _present(roi_volume(subject, category, roi), names)
        if volume is not None or surfaces:
            found[roi] = RoiFiles(category, volume, surfaces)
    return found


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
        rois=_rois(subject, names),
    )


def is_shared(label: str) -> bool:
    """Whether an image was shown to every subject, by its label (file name)."""
    return label.startswith("shared_")


# Types of out-of-distribution (OOD) images, as in the names of the images.
OOD_TYPES = (
    *("cropped", "gabor", "gaudy", "illusion-classic", "illusion-natural"),
    *("relations", "selfmade", "shape", "unusual"),
)
_OOD_LABEL = re.compile(r"shared_\w+_OOD_([A-Za-z-]+)_.+")


def is_ood(label: str) -> bool:
    """Whether an image is out of distribution (OOD), by its label (file name)."""
    return "_OOD_" in label


def ood_type(label: str) -> str | None:
    """OOD type: ``"shared_4rep_OOD_shape_….png"`` -> ``"shape"``; None for other images."""
    match = _OOD_LABEL.fullmatch(label)
    return match[1] if match else None


# Small files in the root folder of the dataset that describe the whole dataset.
_DATASET_FILE = re.compile(
    r"(README|CHANGES|LICENSE)(\.(md|rst|txt))?|dataset_description\.json|participants\.(tsv|json)"
)
_NUMBERED_SESSION = re.compile(r"(?:^|[/_])(ses-\d+)(?=[/_.]|$)")


@dataclass(frozen=True)
class KeyName:
    """Information about a file of the release that its key (path) contains.

    Attributes
    ----------
    entities : mapping of str to str
        BIDS entities of the folders and the file name, such as ``{"sub": "01", "desc": "R2"}``.
    suffix : str
        Last word of the file name, such as ``"statmap"``.
    extension : str
        Text after the first dot of the file name, such as ``"nii.gz"``.
    """

    entities: Mapping[str, str]
    suffix: str
    extension: str


def parse_key(key: str) -> KeyName:
    """Parse a key such as ``…/ses-01/func/…_desc-R2_statmap.nii.gz``."""
    *folders, name = key.split("/")
    stem, _, extension = name.partition(".")
    words = stem.split("_")
    ids = [folder for folder in folders if folder.startswith(("sub-", "ses-"))]
    pairs = [word.partition("-") for word in (*ids, *words)]
    entities = {entity: value for entity, dash, value in pairs if dash and "-" not in value}
    return KeyName(entities, "" if "-" in words[-1] else words[-1], extension)


def is_published(key: str) -> bool:
    """Whether a file is public; files of held-out sessions answer 403 and are never requested."""
    sessions = _NUMBERED_SESSION.findall(key)  # localizer maps are public in all sessions
    return key.startswith(f"{LOCALIZERS}/") or all(map(is_public, sessions))


def is_dataset_file(key: str) -> bool:
    """Whether a key names one of the small files that describe the whole dataset."""
    return _DATASET_FILE.fullmatch(key) is not None


def is_essential(subject: str, key: str) -> bool:
    """Whether the voxel axis depends on a file: mean R², brain mask, ROIs, and their sidecars."""
    maps = {str(r2mean(subject)), str(anatomy(subject, "brain_mask", FUNCTIONAL_RES))}
    if key in maps | {sidecar(path) for path in maps}:
        return True
    res = parse_key(key).entities.get("res", FUNCTIONAL_RES)
    return key.startswith(f"{ROIS}/{subject}/") and res == FUNCTIONAL_RES
