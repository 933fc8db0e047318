"""Measures what a person who knows xarray writes, beside the package's own way, in one run.

Run ``python benchmarks/idioms.py [--dir DIR] [--size full|tiny] [--json FILE]``. A subject of 30
sessions (hard links to one full-size session, see ``scale.py``) is read with as many threads as
there are cores. The idioms are of a region, and of half of its voxels, to show how time grows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from measure import CountingStore, Figure, measure_in_folder, side_by_side
from scale import REGION, SUBJECT
from threads import SIZES as DATASETS
from threads import make

from laion_zarr import load_subject
from laion_zarr.analysis import zscore

MOST = 5.0  # times the package's own way
IMAGE, FEW = "image_name", 10
Work = Callable[[], Any]


class Idiom(NamedTuple):
    """What is written, and the package's own way to the same."""

    what: str
    work: Callable[[xr.DataArray], xr.DataArray]
    own: Callable[[Any, xr.DataArray], xr.DataArray]


def spread(values: np.ndarray) -> np.ndarray:
    """A statistic over trials that no library has."""
    return np.ptp(values, axis=-1)


def few(betas: xr.DataArray) -> np.ndarray:
    """Labels of some voxels, scattered."""
    return np.random.default_rng(0).permutation(betas["voxel"].values)[:FEW]


IDIOMS = [
    Idiom(
        'groupby("image_name").mean()',
        lambda b: b.groupby(IMAGE).mean(),
        lambda sub, b: sub.get_image_betas(zscore=None, mask=inside(sub, b)),
    ),
    Idiom(
        'groupby("session") - groupby("session").mean()',
        lambda b: b.groupby("session") - b.groupby("session").mean(),
        lambda sub, b: zscore(sub.get_betas(mask=inside(sub, b))),
    ),
    Idiom(
        "apply_ufunc along trials",
        lambda b: xr.apply_ufunc(
            spread, b, input_core_dims=[["trial"]], dask="parallelized", output_dtypes=[b.dtype]
        ),
        lambda sub, b: b,
    ),
    Idiom(
        "stack, then ten values",
        lambda b: b.reset_coords(drop=True).stack(z=("trial", "voxel"))[:FEW],
        lambda sub, b: b,
    ),
    Idiom(
        "one session, by a mask",
        lambda b: b[b["session"] == b["session"][0]],
        lambda sub, b: sub.get_betas(1, mask=inside(sub, b)),
    ),
]


def inside(sub: Any, betas: xr.DataArray) -> np.ndarray:
    """Mask of the voxels of `betas` on the voxel axis of the subject."""
    return np.isin(sub.get_betas()["voxel"], betas["voxel"])


def of_whole_brain(sub: Any) -> Iterator[Figure]:
    """Ten voxels of all betas, taken by position, and by name."""
    betas = sub.get_betas()
    labels = few(betas)
    index = np.flatnonzero(np.isin(betas["voxel"], labels))
    works: dict[str, Work] = {
        "idiom": lambda: betas[:, index].compute(),
        "own": lambda: sub.sel(voxel=labels, mask_source="anatomical")["betas"].compute(),
    }
    times = side_by_side(works, 5)
    name = "get_betas()[:, ten voxels], whole brain"
    yield Figure(name, times["idiom"] / times["own"], "× own way", MOST)
    yield Figure(f"{name}: time", times["idiom"], "s")


def bytes_of_a_session(store: Path, sub: Any) -> Iterator[Figure]:
    """Bytes read by xarray's selection of a session, beside those of the package's."""
    read = []
    for own in (False, True):
        counting = CountingStore(store, read_only=True)
        betas = load_subject(SUBJECT, counting).get_betas(1 if own else None, roi=REGION)
        before = counting.nbytes
        (betas if own else betas[betas["session"] == "ses-01"]).compute()
        read.append(counting.nbytes - before)
    yield Figure("one session, by a mask: bytes", read[0] / read[1], "× own way", 1.0)


def figures(root: Path, size: Any) -> Iterator[Figure]:
    """Each idiom, of half a region and of all of it."""
    store = root / "many.zarr"
    sub = load_subject(SUBJECT, store)
    whole = sub.get_betas(roi=REGION)
    for part in (whole[:, : whole.sizes["voxel"] // 2], whole):
        what = f"{part.sizes['trial']:,} × {part.sizes['voxel']:,}"
        for idiom in IDIOMS:
            lazy, own = idiom.work(part), idiom.own(sub, part)
            times = side_by_side({"idiom": lazy.compute, "own": own.compute}, size.runs)
            name = f"{idiom.what}, {what}"
            yield Figure(name, times["idiom"] / times["own"], "× own way", MOST)
            yield Figure(f"{name}: time", times["idiom"], "s")
    yield from bytes_of_a_session(store, sub)
    yield from of_whole_brain(sub)


if __name__ == "__main__":
    measure_in_folder(__doc__, DATASETS, "many.zarr", make, figures)
