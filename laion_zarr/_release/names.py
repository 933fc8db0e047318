"""File names of the release: ids -> relative paths of derivatives and stimuli."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import PurePosixPath

from laion_zarr._release.ids import FUNCTIONAL_RES, HEMIS, Id, session_id

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
# Earlier generations of the embeddings, one folder each: v1 is what was replaced in September 2026.
EMBEDDING_ARCHIVE = PurePosixPath("archive/embeddings")
_EMBEDDINGS = re.compile(
    rf"({STIMULI}|{EMBEDDING_ARCHIVE}/(?P<revision>v\d+))"
    r"/task-images_desc-(?P<model>[A-Za-z0-9]+)_embeddings\.h5"
)

LOCALIZER_TASKS = ("floc", "oloc", "MotionLoc", "MotionLeft", "MotionRight")
RECON_SURFACES = ("white", "pial")
RECON_SPHERE = "sphere.reg"
RECON_GEOMETRY = (*RECON_SURFACES, "inflated", RECON_SPHERE)  # meshes that the store has
RECON_CURVATURE = "curv"
SURFACE_FORMATS = ("func.gii", "label")
ANATOMY_KINDS = {"t1w": "T1w", "t2w": "T2w", "brain_mask": "desc-brain_mask"}
# Per-session maps: name of the array in the store -> BIDS entities and suffix of the file name.
SESSION_MAPS = {
    "session_noise_ceiling": "space-T1w_desc-Noiseceiling_statmap",
    "r2": "space-T1w_stat-rsquare_desc-R2_statmap",
    "hrf_index": "space-T1w_desc-HRFindex_dseg",
    "fracridge": "space-T1w_desc-Fracridge_statmap",
}


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
    """File of a recon's surface, one of `RECON_GEOMETRY`, or of its `RECON_CURVATURE`."""
    return freesurfer_dir(subject) / "surf" / f"{hemi.lower()}h.{name}"


def recon_volume(subject: str) -> PurePosixPath:
    """File of the volume that defines the coordinates of the recon's surfaces."""
    return freesurfer_dir(subject) / "mri" / "orig.mgz"


def recon_talairach(subject: str) -> PurePosixPath:
    """File of the recon's affine to MNI305."""
    return freesurfer_dir(subject) / "mri" / "transforms" / "talairach.lta"


def roi_volume(subject: str, category: str, roi: str, res: str = FUNCTIONAL_RES) -> PurePosixPath:
    """File of an ROI mask; `res` is one of `VOLUME_RESOLUTIONS`."""
    name = f"{subject}_space-T1w_res-{res}_label-{roi}_mask.nii.gz"
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


def template_map(
    subject: str,
    space: str,
    extension: str,
    session: Id | None = None,
    desc: str | None = None,
    **surface: str,
) -> str:
    """Name of a file with a subject's map in a template space, such as ``nii.gz``.

    `surface` has ``den`` and ``hemi``, for a map of one hemisphere.
    """
    if desc is not None and not (desc.isalnum() and desc.isascii()):
        raise ValueError(f"desc must be letters and digits, as in 'MeanBeta', got {desc!r}.")
    entities = {"space": space, **surface, "desc": desc}
    start = subject if session is None else f"{subject}_{session_id(session)}"
    words = [f"{entity}-{value}" for entity, value in entities.items() if value is not None]
    return "_".join([start, *words, f"statmap.{extension}"])


def archived_model(model: str, revision: str | None) -> str:
    """Name of a model's embeddings: ``"CLIP"``, or of an archived revision ``"CLIP@v1"``."""
    return model if revision is None else f"{model}@{revision}"


def embedding_revision(model: str) -> str | None:
    """Archived revision of a model's embeddings: ``"CLIP@v1"`` -> ``"v1"``; None for today's."""
    return model.partition("@")[2] or None


def embeddings(model: str) -> PurePosixPath:
    """File of the embeddings of all images by one model, ``"CLIP"`` or archived ``"CLIP@v1"``."""
    name, _, revision = model.partition("@")
    folder = EMBEDDING_ARCHIVE / revision if revision else STIMULI
    return folder / f"task-images_desc-{name}_embeddings.h5"


def embedding_files(names: Collection[str]) -> dict[str, str]:
    """Model -> embedding file, for the embedding files among the names of a mirror."""
    matches = filter(None, map(_EMBEDDINGS.fullmatch, names))
    found = {archived_model(match["model"], match["revision"]): match[0] for match in matches}
    return dict(sorted(found.items()))


def sidecar(path: str) -> str:
    """File of the BIDS sidecar (JSON) of a data file."""
    for extension in (".nii.gz", ".nii", ".tsv", ".func.gii", ".csv"):
        if path.endswith(extension):
            return path.removesuffix(extension) + ".json"
    return path + ".json"
