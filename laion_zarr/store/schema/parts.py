"""Names of the groups and parts of the store."""

from __future__ import annotations

VOXELS_PART = "voxels"
TRIALS_PART = "trials"
ANATOMY_PART = "anatomy"
SURFACES_PART = "surfaces"
LOCALIZERS_PART = "localizers"
FINE_ROIS_PART = "rois_1pt5"
GEOMETRY_PART = "geometry"
EVENTS_PART = "events"
BOLD_PART = "bold"
AVERAGES_PART = "averages"
METADATA_PART = "metadata"
IMAGES_PART = "images"
EMBEDDINGS_PART = "embeddings"
SEGMENTATIONS_PART = "segmentations"
CAPTIONS_PART = "captions"
STIMULI_GROUP = "stimuli"
MEMBERSHIP_PART = "membership"
SPLITS_GROUP = "splits"
# Kinds of parts of the stimuli -> command that downloads the source files of the part.
STIMULUS_PARTS = {
    METADATA_PART: "download-stimuli",
    IMAGES_PART: "download-stimuli",
    EMBEDDINGS_PART: "download-embeddings",
    SEGMENTATIONS_PART: "download-segmentations",
    CAPTIONS_PART: "download-captions",
}
# Kinds of parts that ``convert --parts`` names; the large ones are converted only when named.
DEFAULT_PARTS = (
    *("betas", ANATOMY_PART, SURFACES_PART, LOCALIZERS_PART, FINE_ROIS_PART, GEOMETRY_PART),
    *(EVENTS_PART, *STIMULUS_PARTS),
)
PARTS = (*DEFAULT_PARTS, BOLD_PART, AVERAGES_PART)
# License attribute of data that contain stimulus images.
IMAGE_LICENSE = (
    "The stimulus images are under the LAION-fMRI Data Use Agreement "
    "(https://laion-fmri.hebartlab.com) and must not be passed on. For a store to be shared, leave "
    "them out: 'laion-zarr convert --parts' with all parts but images."
)


def groups_of_parts(group: str) -> tuple[str, ...]:
    """Subgroups of a group with a manifest that hold parts but no arrays."""
    return {STIMULI_GROUP: (EMBEDDINGS_PART,), SPLITS_GROUP: ()}.get(group, ("maps",))


def embeddings_part(model: str) -> str:
    """Name of the part that holds the embeddings of one model."""
    return f"{EMBEDDINGS_PART}/{model}"


def maps_part(session: str) -> str:
    """Name of the part that holds the 3-D maps of one session."""
    return f"maps/{session}"


def bold_part(session: str) -> str:
    """Name of the part that holds the preprocessed time series of one session."""
    return f"{BOLD_PART}/{session}"


def is_bold_part(part: str) -> bool:
    """Whether a part of a subject holds the preprocessed time series of a session."""
    return part.startswith(f"{BOLD_PART}/")


def is_session_part(part: str) -> bool:
    """Whether a part of a subject holds the betas of a session."""
    return part.startswith("ses-")
