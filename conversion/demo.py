"""``laion-zarr demo``: a synthetic dataset, converted, a face area loaded, a picture."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from laion_zarr._schema import ALL_SESSIONS_NC, ANATOMY_PART, DEFAULT_STORE, TRIAL, VOXEL
from laion_zarr._store import StoredParts, open_store
from laion_zarr.conversion.pipeline import convert
from laion_zarr.conversion.synthetic import write_dataset
from laion_zarr.subject import Subject, load_subject

SUBJECT = "sub-01"
_OUTLINES = ("face", "place", "laionEVC")
_LEVELS = 10
_DPI = 130
_SHOWN = 30  # percent: what few repeats show of a ceiling by chance stays below


def run_demo(
    folder: str | Path,
    size: str = "demo",
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> Path:
    """Make, convert, load and plot a synthetic dataset.

    Parameters
    ----------
    folder : str or Path
        Where to write: ``data`` (the dataset), the store, the picture.
    size : str
        A size of `laion_zarr.conversion.synthetic.SIZES`.
    progress : bool
        Whether to show progress bars.
    say : callable
        Takes a line of what happened.

    Returns
    -------
    pathlib.Path
        The picture.
    """
    root = Path(folder).absolute()
    data, store = root / "data", root / DEFAULT_STORE
    started = time.perf_counter()

    def took() -> str:
        nonlocal started
        before, started = started, time.perf_counter()
        return f"{started - before:.1f} s"

    write_dataset(data, size, [SUBJECT], progress=progress)
    say(f"Made     {data}: synthetic, {_megabytes(data)} of NIfTI ({took()})")
    convert(data, store, progress=progress)
    say(f"Stored   {store}: {_megabytes(store)} ({took()})")

    started = time.perf_counter()
    sub = load_subject(SUBJECT, store)
    faces = sub.get_betas(roi="face")
    say(
        f"Opened   {SUBJECT}, get_betas(roi='face'): {faces.sizes[TRIAL]:,} trials × "
        f"{faces.sizes[VOXEL]:,} voxels, lazy ({took()})"
    )
    faces = faces.load()
    say(f"Loaded   {faces.nbytes / 1e6:.1f} MB of betas, all sessions ({took()})")
    responses = mean_responses(faces)
    best, worst = extremes(responses)
    say(f"Strongest face-area response: {best}, {float(responses.sel(image_name=best)):+.2f} %")
    say(f"Weakest                     : {worst}, {float(responses.sel(image_name=worst)):+.2f} %")
    picture = draw(sub, store, faces, root / "demo.png")
    say(f"Picture  {picture} ({took()})")
    say(f"Go on    load_subject('{SUBJECT[4:]}', store='{store}')")
    return picture


def _megabytes(folder: Path) -> str:
    nbytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{nbytes / 1e6:,.0f} MB"


def mean_responses(betas: xr.DataArray) -> xr.DataArray:
    """Mean over voxels and repeats of each image that was shown at least three times."""
    per_trial = betas.mean(VOXEL)
    grouped = per_trial.groupby("image_name")
    counts = per_trial.groupby("image_name").count()
    return grouped.mean().where(counts >= 3, drop=True)


def extremes(responses: xr.DataArray) -> tuple[str, str]:
    """Images with the highest and with the lowest mean response."""
    return str(responses.idxmax().item()), str(responses.idxmin().item())


def draw(sub: Subject, store: Path, faces: xr.DataArray, path: Path) -> Path:
    """Noise ceiling over T1w with ROI outlines; responses to two images; saved as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8.4), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[2.1, 1])
    _draw_brain(halves[0], sub, store)
    _draw_responses(halves[1], faces)
    figure.savefig(path, dpi=_DPI)
    return path


def _draw_brain(figure: Any, sub: Subject, store: Path) -> None:
    from laion_zarr.plots import axial_slices, mosaic

    t1w = StoredParts(open_store(store), sub.subject_id).load(ANATOMY_PART, ["t1w"])["t1w"]
    ceiling = sub.get_noise_ceiling(desc=ALL_SESSIONS_NC)
    volume = np.full(t1w.shape, np.nan)
    volume.reshape(-1)[ceiling[VOXEL].values] = np.where(ceiling > _SHOWN, ceiling, np.nan)
    brain = sub.get_brain_mask().values.reshape(t1w.shape)
    outlines = {}
    for roi in _OUTLINES:
        mask = sub.get_roi_mask(roi)
        outlines[roi] = np.zeros(t1w.shape, dtype=bool)
        outlines[roi].reshape(-1)[mask[VOXEL].values] = mask.values
    ax = figure.subplots()
    levels = axial_slices(brain, _LEVELS)
    # The release's grids are LAS: the first axis runs from right to left.
    style: dict[str, Any] = {"cmap": "hot", "vmin": 0, "vmax": 100, "sides": ("R", "L")}
    shown = mosaic(ax, volume, t1w, outlines, levels, **style)
    ax.set_title(f"{sub.subject_id}: noise ceiling above {_SHOWN} % over T1w (synthetic data)")
    figure.colorbar(shown, ax=ax, label="noise ceiling (%)", shrink=0.8)


def _draw_responses(figure: Any, faces: xr.DataArray) -> None:
    responses = mean_responses(faces)
    axes = figure.subplots(1, 2, width_ratios=[1, 1.6])
    names = extremes(responses)
    colours = ("tab:orange", "tab:blue")
    for position, (name, colour) in enumerate(zip(names, colours, strict=True)):
        trials = faces.mean(VOXEL)[faces["image_name"].values == name]
        axes[0].bar(position, trials.mean(), color=colour, alpha=0.6)
        offsets = np.linspace(-0.15, 0.15, trials.size) if trials.size > 1 else [0]
        axes[0].plot(position + np.asarray(offsets), trials, "o", color="k", ms=4)
    axes[0].set_xticks([0, 1], [_short(name) for name in names], fontsize="small")
    axes[0].set_ylabel("mean beta (% signal change)")
    axes[0].set_title("Face areas: two images, each repeat a dot")
    axes[0].axhline(0, color="k", lw=0.8)
    ordered = responses.sortby(responses)
    axes[1].plot(np.arange(ordered.size), ordered, ".", color="0.5")
    for name, colour, where in zip(names, colours, (ordered.size - 1, 0), strict=True):
        axes[1].plot(where, ordered.sel(image_name=name), "o", color=colour)
    axes[1].set_xlabel("image, sorted by response")
    axes[1].set_ylabel("mean beta (% signal change)")
    axes[1].set_title(f"All {ordered.size} images shown three times or more")
    axes[1].axhline(0, color="k", lw=0.8)


def _short(name: str) -> str:
    """A label that fits below a bar."""
    stem = name.rpartition(".")[0]
    return "\n".join(stem[lo : lo + 24] for lo in range(0, len(stem), 24))
