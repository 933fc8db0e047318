"""``laion-zarr demo``: make a synthetic dataset, convert it, load face areas, save a picture."""

from __future__ import annotations

import os
import shlex
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from laion_zarr.conversion.parts.splits import add_splits
from laion_zarr.conversion.run.pipeline import convert
from laion_zarr.conversion.synthetic import write_dataset
from laion_zarr.conversion.synthetic.model.experiment import SIZES
from laion_zarr.conversion.synthetic.split_files import write_splits
from laion_zarr.errors import NotConvertedError, needs
from laion_zarr.splits import load_split
from laion_zarr.store.objects import open_store
from laion_zarr.store.parts import StoredParts
from laion_zarr.store.schema import (
    ALL_SESSIONS_NC,
    ANATOMY_PART,
    DEFAULT_STORE,
    PARTS,
    TRIAL,
    VOXEL,
)
from laion_zarr.subject import Subject, load_subject

SUBJECT = "sub-01"
_OUTLINES = ("face", "place", "laionEVC")
_AREAS = ("face", "body", "place", "object", "character")
_CAPTION_WIDTH = 52
_LEVELS = 10
_COLOURS = ("tab:red", "tab:blue", "tab:green", "tab:purple", "tab:olive")
_DPI = 110
_SHOWN = 30  # percent; noise ceilings that arise by chance from few repeats are lower


def run_demo(
    folder: str | Path,
    size: str = "demo",
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> Path | None:
    """Make, convert, load and plot a synthetic dataset.

    Parameters
    ----------
    folder : str or Path
        Folder to write into: ``data`` (the dataset), ``splits``, the store and the picture.
    size : str
        A size of `laion_zarr.conversion.synthetic.SIZES`.
    progress : bool
        Whether to show progress bars.
    say : callable
        Called with each line of text that reports a finished step.

    Returns
    -------
    pathlib.Path or None
        Path of the picture, a PNG; None where the extra ``plot`` is not installed.
    """
    data, store = _places(folder)
    started = time.perf_counter()

    def took() -> str:
        nonlocal started
        before, started = started, time.perf_counter()
        return f"{started - before:.1f} s"

    write_dataset(data, size, [SUBJECT], progress=progress)
    say(f"Made     {data}: synthetic, {_megabytes(data)} ({took()})")
    convert(data, store, parts=PARTS, progress=progress)
    add_splits(write_splits(data.with_name("splits"), SIZES[size]), store)
    say(f"Stored   {store}: {_megabytes(store)}, with train/test splits ({took()})")

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
    trial = telling_trial(sub, responses)
    for line in _about_trial(sub, trial, faces):
        say(line)
    picture = _picture(sub, store, faces, trial, say)
    say(f"Go on    load_subject('{SUBJECT[4:]}', store='{store}')")
    say(f"Look     laion-zarr explore --store {shlex.quote(str(store))}")
    return picture


def use_demo(
    folder: str | Path = "laion-zarr-demo",
    subjects: Sequence[str] = (SUBJECT,),
    size: str = "demo",
) -> Path:
    """Use the demo's store in the rest of this process; make the store if it does not exist.

    Sets the environment variables ``LAION_ZARR_STORE`` and ``LAION_ZARR_DATA_DIR``, which take
    precedence over the configured paths.

    Parameters
    ----------
    folder : str or Path
        As in `run_demo`.
    subjects : sequence of str
        Subjects that the store must hold; missing subjects are made and added.
    size : str
        A size of `laion_zarr.conversion.synthetic.SIZES`.

    Returns
    -------
    pathlib.Path
        Path of the store.

    Examples
    --------
    >>> from laion_zarr import load_subject
    >>> from laion_zarr.conversion.demo import use_demo
    >>> store = use_demo()  # doctest: +SKIP
    >>> sub = load_subject("01")
    """
    data, store = _places(folder)
    lacking = [subject for subject in subjects if not _is_made(store, subject, size)]
    if lacking:
        write_dataset(data, size, lacking)
        convert(data, store, lacking, parts=PARTS, progress=False)
        add_splits(write_splits(data.with_name("splits"), SIZES[size]), store)
    os.environ |= {"LAION_ZARR_STORE": str(store), "LAION_ZARR_DATA_DIR": str(data)}
    return store


def _places(folder: str | Path) -> tuple[Path, Path]:
    """Paths of the dataset and of the store in a demo's folder."""
    root = Path(folder).absolute()
    return root / "data", root / DEFAULT_STORE


def _is_made(store: Path, subject: str, size: str) -> bool:
    """Whether a subject is complete: all its sessions and, written last, the splits exist."""
    try:
        load_split("tau", "shared", store)
        return load_subject(subject, store).get_sessions() == list(SIZES[size].sessions)
    except NotConvertedError:
        return False


def _megabytes(folder: Path) -> str:
    nbytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{nbytes / 1e6:,.0f} MB"


def mean_responses(betas: xr.DataArray) -> xr.DataArray:
    """Mean beta over voxels and repeats of each image that was shown at least three times."""
    per_trial = betas.mean(VOXEL)
    grouped = per_trial.groupby("image_name")
    counts = per_trial.groupby("image_name").count()
    return grouped.mean().where(counts >= 3, drop=True)


def extremes(responses: xr.DataArray) -> tuple[str, str]:
    """Images with the highest and with the lowest mean response."""
    return str(responses.idxmax().item()), str(responses.idxmin().item())


def telling_trial(sub: Subject, responses: xr.DataArray) -> int:
    """First trial of the image with the highest response, among images with masks if any."""
    covered = responses.sel(image_name=responses["image_name"].isin(sub.segmentations.images()))
    best = str((covered if covered.size else responses).idxmax().item())
    return int(sub.metadata.index[sub.metadata["label"] == best][0])


def _about_trial(sub: Subject, trial: int, faces: xr.DataArray) -> list[str]:
    row, response = sub.metadata.loc[trial], float(faces[trial].mean())
    height, width, _ = sub.images.array([trial]).shape[1:]
    nouns = ", ".join(sub.segmentations.nouns(trial)) or "none"
    captions = [repr(text) for text in sub.captions.list(trial)[:2]]
    return [
        f"Trial    {trial} ({row['session']}, run {row['run']}): {row['label']}",
        f"  picture  {width} × {height}; masks of: {nouns}; face areas {response:+.2f} %",
        f"  captions {', '.join(captions) or 'none'}",
    ]


def _picture(
    sub: Subject, store: Path, faces: xr.DataArray, trial: int, say: Callable[[str], None]
) -> Path | None:
    """Draw, or say which extra draws."""
    try:
        needs("plot", "matplotlib")
    except ImportError as error:
        say(f"Picture  left out. {error}")
        return None
    started = time.perf_counter()
    picture = draw(sub, store, faces, trial, store.with_name("demo.png"))
    say(f"Picture  {picture} ({time.perf_counter() - started:.1f} s)")
    return picture


def draw(sub: Subject, store: Path, faces: xr.DataArray, trial: int, path: Path) -> Path:
    """Save a PNG: noise ceiling over T1w with ROI outlines, one trial, responses to images."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 12), layout="constrained")
    rows: Any = figure.subfigures(3, 1, height_ratios=[2.1, 1.1, 1])
    _draw_brain(rows[0], sub, store)
    _draw_trial(rows[1], sub, trial)
    _draw_responses(rows[2], sub, faces)
    figure.savefig(path, dpi=_DPI)
    return path


def _draw_brain(figure: Any, sub: Subject, store: Path) -> None:
    from laion_zarr.plots import axial_slices, mosaic, upright

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
    affine = np.reshape(sub.dataset.attrs["affine"], (4, 4))
    volume, t1w, brain = (upright(found, affine) for found in (volume, t1w, brain))
    outlines = {roi: upright(region, affine) for roi, region in outlines.items()}
    levels = axial_slices(brain, _LEVELS)
    style: dict[str, Any] = {"cmap": "hot", "vmin": 0, "vmax": 100}
    shown = mosaic(ax, volume, t1w, outlines, levels, **style)
    ax.set_title(f"{sub.subject_id}: noise ceiling above {_SHOWN} % over T1w (synthetic data)")
    figure.colorbar(shown, ax=ax, label="noise ceiling (%)", shrink=0.8)


def _draw_trial(figure: Any, sub: Subject, trial: int) -> None:
    """Draw one trial: its picture with object masks, its captions, its mean beta per region."""
    axes = figure.subplots(1, 3, width_ratios=[1, 1.3, 1.5])
    axes[0].imshow(sub.images.get(trial))
    for noun, colour in zip(sub.segmentations.nouns(trial), _COLOURS, strict=False):
        mask = sub.segmentations.get(trial, noun)
        axes[0].contour(mask, [0.5], colors=colour, linewidths=1.5)
        axes[0].plot([], color=colour, label=noun)
    if axes[0].get_legend_handles_labels()[1]:
        axes[0].legend(fontsize="small", loc="upper left", framealpha=0.9)
    axes[0].set_title(f"Trial {trial}: picture and masks")
    axes[0].axis("off")
    table = sub.captions.get(trial)
    texts = [
        textwrap.fill(f"{source}: {caption}", _CAPTION_WIDTH, subsequent_indent="   ")
        for source, caption in zip(table["source"], table["caption"], strict=True)
    ]
    axes[1].text(0, 1, "\n".join(texts), va="top", fontsize="small", transform=axes[1].transAxes)
    axes[1].set_title("Captions")
    axes[1].axis("off")
    areas = [area for area in _AREAS if area in sub.get_available_categories()]
    evoked = [float(sub.get_betas(roi=area)[trial].mean()) for area in areas]
    axes[2].bar(areas, evoked, color=["tab:orange" if x == max(evoked) else "0.7" for x in evoked])
    axes[2].axhline(0, color="k", lw=0.8)
    axes[2].set_ylabel("mean beta (% signal change)")
    axes[2].set_title("Response of this one trial, by regions")


def _draw_responses(figure: Any, sub: Subject, faces: xr.DataArray) -> None:
    responses = mean_responses(faces)
    axes = figure.subplots(1, 2, width_ratios=[1, 1.6])
    names = extremes(responses)
    colours = ("tab:orange", "tab:blue")
    for position, (name, colour) in enumerate(zip(names, colours, strict=True)):
        trials = faces.mean(VOXEL)[faces["image_name"].values == name]
        axes[0].bar(position, trials.mean(), color=colour, alpha=0.6)
        offsets = np.linspace(-0.15, 0.15, trials.size) if trials.size > 1 else [0]
        axes[0].plot(position + np.asarray(offsets), trials, "o", color="k", ms=4)
        trial = sub.metadata.index[sub.metadata["label"] == name][0]
        # The picture of the image, beside the image's bar.
        inset = axes[0].inset_axes((0.42 + 0.45 * position, 0.72, 0.12, 0.26))
        inset.imshow(sub.images.get(int(trial)))
        inset.axis("off")
    axes[0].set_xlim(-0.5, 1.7)
    axes[0].set_xticks([0, 1], ["strongest", "weakest"])
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
