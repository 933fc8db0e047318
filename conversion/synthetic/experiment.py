"""A made-up experiment: images, trials, and how the voxels of a phantom head respond to them.

Every random number is seeded by what it is for, never by what else is made along with it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray
from tqdm import tqdm

from laion_zarr import _release as release
from laion_zarr.conversion.synthetic import phantom

# The historical suffix of a subject's unique images.
SUFFIXES = {"sub-01": "p01", "sub-06": "p02", "sub-05": "p03", "sub-03": "p04", "sub-07": "p05"}
NOUNS = ("acorn", "bell", "camera", "donut", "gloves", "kettle", "lamp", "ribbon", "ship", "violin")
# What some images show and some regions prefer: the first features of an image.
CONTENTS = ("face", "body", "place", "object", "character")
N_FEATURES = 12
_SLICE = 4096  # voxels whose noise ceiling is made at once: bounds the memory

Betas = NDArray[np.float32]  # (trial, voxel)


@dataclass(frozen=True)
class Size:
    """How large a synthetic dataset is; the head has human size on any grid.

    Attributes
    ----------
    shape : tuple of int
        Functional grid.
    voxel_mm : float
        Edge of its voxels.
    trials : tuple of int
        Trials of each session.
    runs : int
        Runs of each session.
    anatomy_shape : tuple of int
        Grid of the full-resolution anatomy.
    anatomy_mm : float
        Edge of its voxels.
    sphere : tuple of int
        Frequency ``f`` of the left and right surface, which have ``10 f² + 2`` vertices.
    picture : int
        Edge of a picture, pixels.
    embeddings : tuple of int
        Lengths of the embeddings by each model.
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

    @property
    def sessions(self) -> tuple[str, ...]:
        """Ids of the sessions."""
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
        (143, 143, 143), 1.7778, (1044,), 12, (300, 320, 310), 0.8, (126, 128), 200, _RELEASED
    ),
}


# Images and trials


def _shared_frequent(n_images: int) -> list[str]:
    """Names of images shown twelve times to everyone."""
    rng = phantom.stream("12rep")
    numbers, items = rng.permutation(5500)[:n_images], rng.integers(0, 6, n_images)
    return [
        f"shared_12rep_THINGS+_kmeans_{number}_{NOUNS[item]}.jpg"
        if k % 3 == 2
        else f"shared_12rep_LAION_cluster_{number}_i{item}.jpg"
        for k, (number, item) in enumerate(zip(numbers, items, strict=True))
    ]


def _shared_rare(n_images: int) -> list[str]:
    """Names of images shown four times to everyone: natural and out-of-distribution in turn."""
    numbers = phantom.stream("4rep").permutation(1000)[:n_images]
    names = [f"shared_4rep_NSD_special1000_{number}.jpg" for number in numbers]
    for k in range(1, n_images, 2):
        kind = release.OOD_TYPES[k // 2 % len(release.OOD_TYPES)]
        extension = "png" if kind in ("cropped", "illusion-classic", "shape") else "jpg"
        names[k] = f"shared_4rep_OOD_{kind}_{NOUNS[numbers[k] % 10]}-{numbers[k]:03d}.{extension}"
    return names


def _unique(subject: str, n_images: int) -> list[str]:
    """Names of images that one subject alone saw."""
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
    """The images of a subject, by the role that they play in the sessions."""

    frequent: list[str]  # in every session
    cohorts: list[list[str]]  # each twice in its session and twice in the next
    fillers: list[list[str]]  # in one session, to fill it up

    @property
    def names(self) -> list[str]:
        """All images."""
        return sum([*self.cohorts, *self.fillers], self.frequent)


def _repeats(size: Size) -> int:
    """How often a frequent image is shown in one session."""
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
    """Trials of a session, in the order of its volumes."""
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
    """One row per image of any subject, in an order of their own."""
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
            "aesthetic_score": np.where(score < 1.4, np.nan, score),  # as in life, some have none
        }
    )


def features(label: str) -> NDArray[np.float32]:
    """Describe an image, by its name alone: one content, and variety."""
    rng = np.random.default_rng(zlib.crc32(label.encode()))
    values = rng.standard_normal(N_FEATURES)
    values[: len(CONTENTS)] = values[: len(CONTENTS)] * 0.4 - 0.4
    values[rng.integers(len(CONTENTS))] += 2
    return values.astype(np.float32)


# Voxels and betas


@dataclass(frozen=True)
class Model:
    """One subject's head on the functional grid, and how its voxels respond."""

    size: Size
    subject: str
    anatomy: phantom.Anatomy
    regions: dict[str, phantom.Mask]  # flat, C order, as are all volumes here
    rsquare: phantom.Mask
    voxels: NDArray[np.intp]  # voxels of either mask, in the order of the file: x runs fastest
    positions: NDArray[np.intp]  # the same in Fortran order
    tuning: NDArray[np.float32]  # (feature, voxel) signal, in units of the noise
    baseline: NDArray[np.float32]  # (voxel,)
    scale: NDArray[np.float32]  # (voxel,) noise, percent signal change
    damage: dict[str, NDArray[np.intp]]  # rows of `voxels` that lack values

    def volume(self, values: NDArray, dtype: DTypeLike = np.float32) -> NDArray:
        """Values of the voxels as a flat volume, 0 elsewhere."""
        volume = np.zeros(self.rsquare.size, dtype)
        volume[self.voxels] = values
        return volume

    def in_file_order(self, values: NDArray) -> NDArray:
        """Values of the voxels as a flat volume in Fortran order, as NIfTI has it."""
        volume = np.zeros(self.rsquare.size, values.dtype)
        volume[self.positions] = values
        return volume


def _rsquare_mask(
    subject: str, grid: phantom.Grid, anatomy: phantom.Anatomy, regions: Iterable[phantom.Mask]
) -> phantom.Mask:
    """Where the model of the signal fits: the head, but for dropout."""
    rng = phantom.stream(subject, "dropout")
    brain = np.flatnonzero(anatomy.brain)
    sinus = np.linalg.norm(grid.points(brain) - [0, 58, -22], axis=1) < 11
    outside = np.flatnonzero(np.logical_or.reduce(list(regions)) & ~anatomy.brain)
    mask = anatomy.head.copy()
    mask[brain[sinus]] = False
    mask[rng.choice(brain, max(2, brain.size // 1000), replace=False)] = False
    mask[rng.choice(outside, -(-outside.size // 5), replace=False)] = False
    return mask


def _waves(rng: np.random.Generator, points: phantom.Points, n_fields: int) -> NDArray[np.float32]:
    """Smooth random fields of unit variance, (field, point)."""
    fields = np.zeros((n_fields, len(points)), np.float32)
    for field in fields:
        vectors = rng.standard_normal((4, 3)) * 2 * np.pi / 45
        for vector, phase in zip(vectors, rng.uniform(0, 2 * np.pi, 4), strict=True):
            field += np.cos(points @ vector.astype(np.float32) + np.float32(phase))
    return fields / np.float32(2**0.5)


def _tuning(
    subject: str, points: phantom.Points, cortex: NDArray, regions: dict[str, phantom.Mask]
) -> NDArray[np.float32]:
    """Signal of each voxel per feature: strong in visual regions, weak in white matter."""
    rng = phantom.stream(subject, "tuning")
    tuning = _waves(rng, points, N_FEATURES)
    gain = 0.05 + cortex * (0.1 + 0.25 / (1 + np.exp((points[:, 1] + 15) / 12)))
    for name, mask in regions.items():
        content = phantom.REGIONS[name].category
        if content in CONTENTS:
            tuning[CONTENTS.index(content), mask] += 3
        # Behind the central sulcus all regions here are visual.
        posterior = mask & (points[:, 1] < -10)
        gain[posterior] = np.maximum(gain[posterior], 0.75)
    gain *= np.exp(0.25 * rng.standard_normal(gain.size))
    return (tuning * (gain / np.linalg.norm(tuning, axis=0))).astype(np.float32)


def _damage(size: Size, subject: str, n_voxels: int) -> dict[str, NDArray[np.intp]]:
    """Choose the voxels without values: always, in a session, in one trial of a session."""
    kinds = ["nan", "zero", *size.sessions, *(f"{session} trial" for session in size.sessions)]
    each = max(2, n_voxels // 8000)
    chosen = phantom.stream(subject, "damage").permutation(n_voxels)[: each * len(kinds)]
    return dict(zip(kinds, chosen.reshape(len(kinds), each), strict=True))


def voxel_model(size: Size, subject: str) -> Model:
    """Make a subject's head and the responses of its voxels."""
    head, grid = phantom.Head.of(subject), size.grid
    anatomy = phantom.scan(head, grid)
    regions = phantom.region_volumes(head, grid, anatomy)
    rsquare = _rsquare_mask(subject, grid, anatomy, regions.values())
    file_order = np.arange(rsquare.size).reshape(grid.shape).ravel(order="F")
    positions = np.flatnonzero((anatomy.brain | rsquare)[file_order])
    voxels = file_order[positions]
    points, rng = grid.points(voxels), phantom.stream(subject, "voxels")
    here = {name: mask[voxels] for name, mask in regions.items()}
    tuning = _tuning(subject, points, anatomy.cortex[voxels], here)
    tuning *= anatomy.brain[voxels]  # the rest of the head sees nothing
    return Model(
        size,
        subject,
        anatomy,
        regions,
        rsquare,
        voxels,
        positions,
        tuning,
        baseline=rng.normal(0.3, 0.3, voxels.size).astype(np.float32),
        scale=rng.lognormal(0, 0.3, voxels.size).astype(np.float32),
        damage=_damage(size, subject, voxels.size),
    )


def session_betas(model: Model, session: str, progress: bool) -> Betas:
    """Betas of a session, (trial, voxel): what the image evokes, an offset and noise."""
    labels = trial_table(model.size, model.subject, session)["label"]
    rng = phantom.stream(model.subject, session, "noise")
    offset = rng.standard_normal(model.voxels.size, np.float32) * np.float32(0.3) + model.baseline
    betas = np.empty((len(labels), model.voxels.size), np.float32)
    title = f"{model.subject} {session}"
    for row, label in zip(betas, tqdm(labels, title, disable=not progress), strict=True):
        rng.standard_normal(out=row, dtype=np.float32)
        row += np.einsum("f,fv->v", features(label), model.tuning)
        row += offset
        row *= model.scale
    damage = model.damage
    betas[:, damage["nan"]] = np.nan
    betas[:, damage["zero"]] = 0
    betas[:, damage[session]] = np.nan
    single = damage[f"{session} trial"]
    betas[rng.integers(0, len(betas), single.size), single] = np.nan
    betas[0, single[0]] = 0
    return betas


def r_squared(model: Model, session: str) -> NDArray[np.float32]:
    """R² of a session, percent: of voxels in the rsquare mask, some negative or NaN."""
    rng, again = (phantom.stream(model.subject, name, "R2") for name in ("", session))
    signal = (model.tuning**2).sum(0)
    noise = 0.7 * rng.standard_normal(signal.size) + 0.3 * again.standard_normal(signal.size)
    values = 100 * signal / (1 + signal) * again.uniform(0.85, 1) + 1.8 + noise
    values[model.damage["nan"]] = np.nan
    return np.where(model.rsquare[model.voxels], values, 0).astype(np.float32)


def fit_maps(model: Model, session: str) -> dict[str, NDArray]:
    """Choices that GLMsingle makes per voxel: response function and ridge fraction."""
    rng = phantom.stream(model.subject, session, "fit")
    level, fraction = _waves(rng, model.size.grid.points(model.voxels), 2)
    fits = model.rsquare[model.voxels]
    index = np.clip(10 + 4 * level, 0, 19).astype(np.int16) * fits
    ridge = np.clip((0.5 + 0.25 * fraction).round(1), 0.05, 1) * fits
    return {"hrf_index": model.volume(index, np.int16), "fracridge": model.volume(ridge)}


# Noise ceilings


def _zscored(values: NDArray, groups: NDArray) -> NDArray[np.float64]:
    """Z-score each voxel (column) within groups of trials; NaN where a voxel does not vary."""
    scored = np.empty(values.shape)
    for group in np.unique(groups):
        part = values[groups == group].astype(np.float64)
        deviation = part.std(0)
        scored[groups == group] = (part - part.mean(0)) / np.where(deviation > 0, deviation, np.nan)
    return scored


def _ceiling(scored: NDArray[np.float64], labels: pd.Series) -> NDArray[np.float64]:
    """Noise ceiling, percent, from z-scored betas (trial, voxel), as in Allen et al. (2022)."""
    trials = np.flatnonzero(labels.duplicated(keep=False))
    codes = pd.factorize(labels.iloc[trials])[0]
    order, counts = np.argsort(codes, kind="stable"), np.bincount(codes)
    values, starts = scored[trials[order]], np.r_[0, np.cumsum(counts)[:-1]]
    means = np.add.reduceat(values, starts) / counts[:, None]
    values -= np.repeat(means, counts, axis=0)
    variances = np.add.reduceat(values**2, starts) / (counts - 1)[:, None]
    noise = variances.mean(0)
    signal = np.maximum(0, 1 - noise)
    # ncsnr² / (ncsnr² + mean(1/n)), both sides times the noise, which may be 0.
    return 100 * signal / (signal + noise * (1 / counts).mean())


def _slices(n_voxels: int) -> Iterator[slice]:
    return (slice(start, start + _SLICE) for start in range(0, n_voxels, _SLICE))


def session_ceiling(betas: Betas, trials: pd.DataFrame) -> NDArray[np.float64]:
    """Noise ceiling of one session, from betas z-scored within runs."""
    runs = trials["run"].to_numpy()
    parts = (_zscored(betas[:, part], runs) for part in _slices(betas.shape[1]))
    return np.concatenate([_ceiling(part, trials["label"]) for part in parts])


def cross_session_ceilings(
    sessions: Sequence[Betas], labels: pd.Series
) -> dict[str, NDArray[np.float64]]:
    """Noise ceilings of all sessions together, from betas z-scored within session."""
    rare = ~labels.str.contains("_12rep_")
    wanted = {
        "Noiseceiling4rep": np.flatnonzero(rare),
        "Noiseceiling12rep": np.flatnonzero(~rare),
        "NoiseceilingAllrep": np.arange(len(labels)),
    }
    found: dict[str, list[NDArray[np.float64]]] = {desc: [] for desc in wanted}
    for part in _slices(sessions[0].shape[1]):
        scored = np.concatenate(
            [_zscored(betas[:, part], np.zeros(len(betas))) for betas in sessions]
        )
        for desc, rows in wanted.items():
            found[desc].append(_ceiling(scored[rows], labels.iloc[rows]))
    return {desc: np.concatenate(parts) for desc, parts in found.items()}
