"""A made-up experiment: its size, the images, and the trials in which they are shown.

Each random number is seeded by names of its purpose, such as subject and session, so it does not
depend on which other parts of the dataset are made.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from laion_zarr import _release as release
from laion_zarr.conversion.synthetic.model import phantom

# Historical suffix in the names of the images that only this subject saw.
SUFFIXES = {"sub-01": "p01", "sub-06": "p02", "sub-05": "p03", "sub-03": "p04", "sub-07": "p05"}
NOUNS = ("acorn", "bell", "camera", "donut", "gloves", "kettle", "lamp", "ribbon", "ship", "violin")
# Contents of images, each preferred by some regions: the first features of an image, in this order.
CONTENTS = ("face", "body", "place", "object", "character")
N_FEATURES = 12


@dataclass(frozen=True)
class Size:
    """How large a synthetic dataset is; the head has human size on any grid.

    Attributes
    ----------
    shape : tuple of int
        Shape of the functional grid.
    voxel_mm : float
        Edge length of the functional voxels, mm.
    trials : tuple of int
        Number of trials of each session.
    runs : int
        Number of runs of each session.
    anatomy_shape : tuple of int
        Shape of the grid of the full-resolution anatomy.
    anatomy_mm : float
        Edge length of the voxels of the full-resolution anatomy, mm.
    sphere : tuple of int
        Frequency ``f`` of the left and right surface, which have ``10 f² + 2`` vertices.
    picture : int
        Edge length of a picture, pixels.
    embeddings : tuple of int
        Number of features of the embeddings by each model.
    bold_runs : int
        Number of runs of the first session that have preprocessed time series.
    """

    shape: tuple[int, int, int]
    voxel_mm: float
    trials: tuple[int, ...]
    runs: int
    anatomy_shape: tuple[int, int, int]
    anatomy_mm: float
    sphere: tuple[int, int]
    picture: int = 24
    embeddings: tuple[int, int, int, int] = (16, 16, 16, 18)
    bold_runs: int = 2

    @property
    def sessions(self) -> tuple[str, ...]:
        """Session ids, such as ``"ses-01"``."""
        return tuple(f"ses-{number:02d}" for number in range(1, len(self.trials) + 1))

    @property
    def grid(self) -> phantom.Grid:
        """The functional grid."""
        return phantom.Grid(self.shape, self.voxel_mm)


_RELEASED = (1024, 1024, 1024, 1152)
SIZES = {
    "tiny": Size((11, 13, 12), 17.0, (24, 27), 2, (17, 21, 19), 10.5, (4, 5)),
    "demo": Size(
        (50, 60, 48), 4.0, (150, 162, 144), 12, (100, 120, 96), 2.0, (24, 25), 160, _RELEASED
    ),
    "full": Size(
        (143, 143, 143), 1.7778, (1044,), 12, (300, 320, 310), 0.8, (126, 128), 200, _RELEASED, 0
    ),
}


# Images and trials


def _shared_frequent(n_images: int) -> list[str]:
    """Names of images shown twelve times to every subject."""
    rng = phantom.stream("12rep")
    numbers, items = rng.permutation(5500)[:n_images], rng.integers(0, 6, n_images)
    return [
        f"shared_12rep_THINGS+_kmeans_{number}_{NOUNS[item]}.jpg"
        if k % 3 == 2
        else f"shared_12rep_LAION_cluster_{number}_i{item}.jpg"
        for k, (number, item) in enumerate(zip(numbers, items, strict=True))
    ]


def _shared_rare(n_images: int) -> list[str]:
    """Names of images shown four times to every subject, every second one out-of-distribution."""
    numbers = phantom.stream("4rep").permutation(1000)[:n_images]
    names = [f"shared_4rep_NSD_special1000_{number}.jpg" for number in numbers]
    for k in range(1, n_images, 2):
        kind = release.OOD_TYPES[k // 2 % len(release.OOD_TYPES)]
        extension = "png" if kind in ("cropped", "illusion-classic", "shape") else "jpg"
        names[k] = f"shared_4rep_OOD_{kind}_{NOUNS[numbers[k] % 10]}-{numbers[k]:03d}.{extension}"
    return names


def _unique(subject: str, n_images: int) -> list[str]:
    """Names of images shown to one subject only."""
    rng = phantom.stream(subject, "unique")
    numbers, items = rng.permutation(5500)[:n_images], rng.integers(0, 46, n_images)
    pools = rng.choice(["initial", "new", "fillup", ""], n_images, p=[0.68, 0.07, 0.15, 0.1])
    return [
        f"unique_LAION_{pool}_cluster_{number}_i{item}_{SUFFIXES[subject]}.jpg"
        if pool
        else f"unique_THINGS+_{NOUNS[item % 10]}{number}_{SUFFIXES[subject]}.jpg"
        for number, item, pool in zip(numbers, items, pools, strict=True)
    ]


@dataclass(frozen=True)
class Images:
    """Names of the images of a subject, grouped by the sessions in which they are shown."""

    frequent: list[str]  # shown in every session
    cohorts: list[list[str]]  # per session: shown twice in it and twice in the next session
    fillers: list[list[str]]  # per session: shown only in it, to reach its number of trials

    @property
    def names(self) -> list[str]:
        """Names of all images."""
        return sum([*self.cohorts, *self.fillers], self.frequent)


def _repeats(size: Size) -> int:
    """Number of trials of one session that show a given frequent image."""
    return max(1, min(12 // len(size.trials), min(size.trials) // 4))


def _images(size: Size, subject: str) -> Images:
    n_sessions, least = len(size.trials), min(size.trials)
    n_frequent = max(2, round(0.3 * least / _repeats(size)))
    n_rare = (least - n_frequent * _repeats(size)) // 4
    n_shared = n_rare // 2
    left = [total - n_frequent * _repeats(size) - 4 * n_rare for total in size.trials]
    shared = iter(_shared_rare(n_sessions * n_shared))
    n_unique = n_sessions * (n_rare - n_shared) + sum((rest + 1) // 2 for rest in left)
    unique = iter(_unique(subject, n_unique))
    return Images(
        _shared_frequent(n_frequent),
        [
            [next(shared) for _ in range(n_shared)]
            + [next(unique) for _ in range(n_rare - n_shared)]
            for _ in size.trials
        ],
        [[next(unique) for _ in range((rest + 1) // 2)] for rest in left],
    )


def trial_table(size: Size, subject: str, session: str) -> pd.DataFrame:
    """Trial table of a session, in the order of the volumes of its betas."""
    number = size.sessions.index(session)
    images, n_trials = _images(size, subject), size.trials[number]
    labels = images.frequent * _repeats(size)
    labels += (images.cohorts[number] + images.cohorts[number - 1]) * 2
    labels += (images.fillers[number] * 2)[: n_trials - len(labels)]
    order = phantom.stream(subject, session, "trials").permutation(n_trials)
    index = np.arange(n_trials)
    return pd.DataFrame(
        {
            "session": session,
            "run": index * size.runs // n_trials + 1,
            "beta_index": index,
            "label": [labels[k] for k in order],
        }
    )


def metadata(size: Size) -> pd.DataFrame:
    """Image metadata: one row per image of all subjects, in random order."""
    seen_by = {
        name: subject for subject in release.SUBJECTS for name in _images(size, subject).names
    }
    names = phantom.stream("metadata").permutation(sorted(seen_by)).tolist()
    parts = [name.split("_") for name in names]
    shared = [release.is_shared(name) for name in names]
    score = phantom.stream("aesthetic").uniform(1, 9, len(names)).round(3)
    return pd.DataFrame(
        {
            "image_name": names,
            "dataset": [
                part[2] if both else part[1] for part, both in zip(parts, shared, strict=True)
            ],
            "participant": [
                "all" if both else seen_by[name] for name, both in zip(names, shared, strict=True)
            ],
            "unique_or_shared": [part[0] for part in parts],
            "n_reps": [
                part[1] if both else "4rep" for part, both in zip(parts, shared, strict=True)
            ],
            "aesthetic_score": np.where(score < 1.4, np.nan, score),  # some images have none
        }
    )


def features(label: str) -> NDArray[np.float32]:
    """Features (12,) of an image, seeded by its name: one dominant content, the rest random."""
    rng = np.random.default_rng(zlib.crc32(label.encode()))
    values = rng.standard_normal(N_FEATURES)
    values[: len(CONTENTS)] = values[: len(CONTENTS)] * 0.4 - 0.4
    values[rng.integers(len(CONTENTS))] += 2
    return values.astype(np.float32)
