"""How the voxels of a made-up head respond to images: betas, maps and noise ceilings.

Each random number is seeded by names of its purpose, such as subject and session, so it does not
depend on which other parts of the dataset are made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray
from tqdm import tqdm

from laion_zarr.conversion.synthetic.model import phantom
from laion_zarr.conversion.synthetic.model.cortex import REGIONS, region_volumes
from laion_zarr.conversion.synthetic.model.experiment import (
    CONTENTS,
    N_FEATURES,
    Size,
    features,
    trial_table,
)

_SLICE = 4096  # voxels whose noise ceiling is computed at once: bounds the memory
Betas = NDArray[np.float32]  # (trial, voxel)


@dataclass(frozen=True)
class Model:
    """One subject's head on the functional grid, and the response parameters of its voxels."""

    size: Size
    subject: str
    anatomy: phantom.Anatomy
    regions: dict[str, phantom.Mask]  # flat in C order, as all volumes of this module
    rsquare: phantom.Mask  # voxels with a value in the R² maps
    voxels: NDArray[np.intp]  # C-order indices of the voxels in brain or rsquare, x runs fastest
    positions: NDArray[np.intp]  # Fortran-order indices of `voxels`
    tuning: NDArray[np.float32]  # (feature, voxel) signal, in units of the noise
    baseline: NDArray[np.float32]  # (voxel,) mean response, in units of the noise
    scale: NDArray[np.float32]  # (voxel,) standard deviation of the noise, percent signal change
    damage: dict[str, NDArray[np.intp]]  # kind -> positions of damaged voxels in `voxels`

    def volume(self, values: NDArray, dtype: DTypeLike = np.float32) -> NDArray:
        """Flat volume in C order with the values of `voxels`, 0 elsewhere."""
        volume = np.zeros(self.rsquare.size, dtype)
        volume[self.voxels] = values
        return volume

    def in_file_order(self, values: NDArray) -> NDArray:
        """Flat volume in Fortran order, as in a NIfTI file, with the values of `voxels`."""
        volume = np.zeros(self.rsquare.size, values.dtype)
        volume[self.positions] = values
        return volume


def _rsquare_mask(
    subject: str, grid: phantom.Grid, anatomy: phantom.Anatomy, regions: Iterable[phantom.Mask]
) -> phantom.Mask:
    """Mask of the voxels with a value in the R² maps: the head except for signal dropout."""
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
    """Signal per feature, (feature, voxel): strong in visual regions, weak in white matter."""
    rng = phantom.stream(subject, "tuning")
    tuning = _waves(rng, points, N_FEATURES)
    gain = 0.05 + cortex * (0.1 + 0.25 / (1 + np.exp((points[:, 1] + 15) / 12)))
    for name, mask in regions.items():
        content = REGIONS[name].category
        if content in CONTENTS:
            tuning[CONTENTS.index(content), mask] += 3
        # All regions of the model behind the central sulcus are visual.
        posterior = mask & (points[:, 1] < -10)
        gain[posterior] = np.maximum(gain[posterior], 0.75)
    gain *= np.exp(0.25 * rng.standard_normal(gain.size))
    return (tuning * (gain / np.linalg.norm(tuning, axis=0))).astype(np.float32)


def _damage(size: Size, subject: str, n_voxels: int) -> dict[str, NDArray[np.intp]]:
    """Choose damaged voxels: NaN or 0 in all trials, NaN in one session or in one trial of it."""
    kinds = ["nan", "zero", *size.sessions, *(f"{session} trial" for session in size.sessions)]
    each = max(2, n_voxels // 8000)
    chosen = phantom.stream(subject, "damage").permutation(n_voxels)[: each * len(kinds)]
    return dict(zip(kinds, chosen.reshape(len(kinds), each), strict=True))


def voxel_model(size: Size, subject: str) -> Model:
    """Make the model of a subject: anatomy, regions and response parameters of the voxels."""
    head, grid = phantom.Head.of(subject), size.grid
    anatomy = phantom.scan(head, grid)
    regions = region_volumes(head, grid, anatomy)
    rsquare = _rsquare_mask(subject, grid, anatomy, regions.values())
    file_order = np.arange(rsquare.size).reshape(grid.shape).ravel(order="F")
    positions = np.flatnonzero((anatomy.brain | rsquare)[file_order])
    voxels = file_order[positions]
    points, rng = grid.points(voxels), phantom.stream(subject, "voxels")
    here = {name: mask[voxels] for name, mask in regions.items()}
    tuning = _tuning(subject, points, anatomy.cortex[voxels], here)
    tuning *= anatomy.brain[voxels]  # voxels outside of the brain do not respond
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
    """Betas of a session, (trial, voxel), percent signal change: response, offset and noise."""
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
    """R² of a session, (voxel,) percent; 0 outside the rsquare mask, some negative or NaN in it."""
    rng, again = (phantom.stream(model.subject, name, "R2") for name in ("", session))
    signal = (model.tuning**2).sum(0)
    noise = 0.7 * rng.standard_normal(signal.size) + 0.3 * again.standard_normal(signal.size)
    values = 100 * signal / (1 + signal) * again.uniform(0.85, 1) + 1.8 + noise
    values[model.damage["nan"]] = np.nan
    return np.where(model.rsquare[model.voxels], values, 0).astype(np.float32)


def fit_maps(model: Model, session: str) -> dict[str, NDArray]:
    """Maps of GLMsingle's choices per voxel: index of the response function, ridge fraction."""
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
    # ncsnr² / (ncsnr² + mean(1/n)), with numerator and denominator multiplied by the noise
    # variance, which may be 0.
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
