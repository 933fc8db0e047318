"""Checks of the subjects: parts against one another, values against the source.

Images, surfaces and labels of the source are read with nibabel, trial tables with pandas.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np

from laion_zarr.conversion.verification.bold import BoldChecks
from laion_zarr.conversion.verification.checks import Check, as_stored
from laion_zarr.conversion.verification.events import EventChecks
from laion_zarr.conversion.verification.geometry import check_meshes, compare_geometry
from laion_zarr.conversion.verification.localizers import LocalizerChecks
from laion_zarr.conversion.verification.sources import read_text_table
from laion_zarr.store.objects import location
from laion_zarr.store.parts import Part
from laion_zarr.store.schema import (
    ANATOMY_PART,
    AVERAGES_PART,
    BETAS,
    CHUNK_VOXELS,
    EVENTS_PART,
    GEOMETRY_PART,
    IMAGE_NAME,
    MEAN,
    MEAN_BY_VOXEL,
    N_TRIALS,
    NOISE,
    SURFACES_PART,
    TRIALS_PART,
    VOXELS_PART,
    is_bold_part,
    is_session_part,
    trial_columns,
)

_VOLUMES_AT_ONCE = 16
_VOXELS_AT_ONCE = 4 * CHUNK_VOXELS
_SAME = 1e-5  # of averages in float32, relative and in standard deviations


@dataclass
class SubjectChecks:
    """Checks of one subject.

    Attributes
    ----------
    check : Check
        Verification that these checks belong to.
    group : str
        Name of the subject's group, which is the subject id.
    """

    check: Check
    group: str

    @property
    def _parts(self) -> dict[str, Part]:
        return self.check.groups[self.group]

    # -- contents

    def contents(self) -> None:
        """Check that the parts agree with one another."""
        for name in sorted(self._parts):
            if is_session_part(name):
                self._session(name)
            elif is_bold_part(name):
                BoldChecks(self.check, self.group, name).contents()
        if TRIALS_PART in self._parts:
            self._trials()
        if AVERAGES_PART in self._parts:
            self._averages()
        LocalizerChecks(self.check, self.group).contents()
        if GEOMETRY_PART in self._parts:
            check_meshes(self.check, f"{self.group}/{GEOMETRY_PART}")
        if EVENTS_PART in self._parts:
            EventChecks(self.check, self.group).contents(self._parts)
        if SURFACES_PART in self._parts:
            self._surfaces()

    def _where(self, path: str) -> str:
        return location(self.check.store, path)

    def _session(self, session: str) -> None:
        path, array = f"{self.group}/{session}", self.check.array
        betas = self.check.root[f"{path}/betas"]
        voxels = array(f"{self.group}/{VOXELS_PART}/voxel")
        if not np.array_equal(voxels, array(f"{path}/voxel")):
            self.check.problem(f"{self._where(path)} has other voxels than {self.group}/voxels.")
        n_trials = len(array(f"{path}/trial"))
        if betas.shape != (len(voxels), n_trials):
            self.check.problem(
                f"{self._where(path)}/betas has shape {betas.shape}, expected "
                f"{(len(voxels), n_trials)}: voxels, trials."
            )
        self.check.chunk_table(path, BETAS)

    def _trials(self) -> None:
        names = [self.check.array(f"{self.group}/{ses}/image_name") for ses in self._sessions]
        stored = self.check.array(f"{self.group}/{TRIALS_PART}/image_name")
        if not np.array_equal(np.concatenate(names), stored):
            self.check.problem(f"{self._where(self.group)}/trials does not match its sessions.")

    @property
    def _sessions(self) -> list[str]:
        return sorted(name for name in self._parts if is_session_part(name))

    @property
    def _stale(self) -> bool:
        """Whether the averages were made from other betas than are stored."""
        made_from = {name: self._parts[name].fingerprint for name in self._sessions}
        return self._parts[AVERAGES_PART].sources != made_from

    def _averages(self) -> None:
        path, array = f"{self.group}/{AVERAGES_PART}", self.check.array
        names = array(f"{path}/{IMAGE_NAME.name}")
        again = f"Make them anew with 'laion-zarr convert --overwrite --parts {AVERAGES_PART}'."
        shape, what = (len(names), len(array(f"{path}/voxel"))), "images, voxels"
        found = self.check.root[f"{path}/{MEAN.name}"].shape
        swapped = self._swapped(path)
        if found == shape and swapped is not None:
            shape, found, what = shape[::-1], swapped.shape, "voxels, images"
        if found != shape:
            self.check.problem(
                f"{self._where(path)}: averages have shape {found}, expected {shape}: {what}. "
                f"{again}"
            )
            return
        self.check.chunk_table(path, MEAN)
        if swapped is not None:
            self.check.chunk_table(path, MEAN_BY_VOXEL)
        if self._stale:
            self.check.report.notes.append(
                f"{self._where(path)}: made from other betas than are stored; readers refuse them. "
                f"{again.replace(' --overwrite', '')}"
            )
            return
        shown = np.concatenate([array(f"{self.group}/{s}/image_name") for s in self._sessions])
        images, counts = np.unique(shown.astype(object), return_counts=True)
        voxels = array(f"{self.group}/{VOXELS_PART}/voxel")
        if not (
            np.array_equal(images, names.astype(object))
            and np.array_equal(counts, array(f"{path}/{N_TRIALS.name}"))
            and np.array_equal(voxels, array(f"{path}/voxel"))
        ):
            self.check.problem(
                f"{self._where(path)} has other images, trials or voxels than the betas. {again}"
            )

    def _swapped(self, path: str) -> Any:
        """Averages voxel by voxel; None in a store whose averages were made without them."""
        return self.check.root.get(f"{path}/{MEAN_BY_VOXEL.name}")

    def _surfaces(self) -> None:
        """Check that the vertices of each label lie on the surface that the masks have."""
        surfaces = self.check.root[f"{self.group}/{SURFACES_PART}"]
        for node in sorted(surfaces.group_keys()):
            arrays = dict(surfaces[node].arrays())
            meshes = {a.shape[0] for a in arrays.values() if a.dtype == bool}
            for name, array in sorted(arrays.items()):
                vertices = np.asarray(array[...])
                if array.dtype == bool or not vertices.size or not meshes:
                    continue
                if vertices.min() < 0 or vertices.max() >= max(meshes):
                    where = self._where(f"{self.group}/{SURFACES_PART}/{node}/{name}")
                    self.check.problem(
                        f"{where} has vertices from {vertices.min()} to {vertices.max()}, and the "
                        f"surface {max(meshes)}. Download its source file again and run "
                        "'laion-zarr convert --overwrite'."
                    )

    # -- values

    def values(self) -> None:
        """Read the source with nibabel and pandas and compare every value."""
        group = self.group
        shape = tuple(self.check.root[f"{group}/{VOXELS_PART}"].attrs["shape"])
        ijk = np.unravel_index(self.check.array(f"{group}/{VOXELS_PART}/voxel"), shape)
        self._compare_voxels(group, ijk)
        for name, part in sorted(self._parts.items()):
            path = f"{group}/{name}"
            if is_session_part(name):
                self._compare_betas(path, ijk)
                self._compare_trials(path, part)
            elif is_bold_part(name):
                BoldChecks(self.check, group, name).values(ijk)
            elif name.startswith("maps/"):
                self._compare_maps(path, ijk)
            elif name == ANATOMY_PART:
                self._compare_maps(path, ())
            elif name == SURFACES_PART:
                self._compare_surfaces(path)
            elif name == EVENTS_PART:
                EventChecks(self.check, self.group).values(part)
            elif name == GEOMETRY_PART:
                compare_geometry(self.check, path)
        LocalizerChecks(self.check, group).values()
        if AVERAGES_PART in self._parts:
            self._compare_averages(f"{group}/{AVERAGES_PART}")

    def _load(self, file: str) -> Any:
        """Open a source image; None if the file is missing."""
        assert self.check.folder is not None
        path = self.check.folder / file
        # Kept open: inflating continues at the next volume, instead of at the start of the file.
        return nib.load(path, keep_file_open=True) if self.check.converted(path) else None

    def _compare_betas(self, path: str, ijk: tuple[np.ndarray, ...]) -> None:
        array = self.check.root[f"{path}/betas"]
        image = self._load(array.attrs["source"]["file"])
        if image is None:
            return
        stored = np.asarray(array[...])
        n_trials = stored.shape[1]
        with self.check.bar(stored.nbytes, path) as bar:
            for lo in range(0, n_trials, _VOLUMES_AT_ONCE):
                hi = min(lo + _VOLUMES_AT_ONCE, n_trials)
                block = np.asanyarray(image.dataobj[..., lo:hi])[ijk]
                self.check.same(f"{path}/betas, trials {lo}-{hi - 1}", stored[:, lo:hi], block)
                bar.update(stored[:, lo:hi].nbytes)

    def _compare_averages(self, path: str) -> None:
        """Average the stored betas anew, in float64, and compare."""
        if self._stale:
            return
        mean, swapped = self.check.root[f"{path}/{MEAN.name}"], self._swapped(path)
        noise = None if swapped is None else self.check.array(f"{path}/{NOISE.name}")
        betas = [self.check.root[f"{self.group}/{ses}/{BETAS.name}"] for ses in self._sessions]
        shown = [self.check.array(f"{self.group}/{s}/image_name") for s in self._sessions]
        _, codes = np.unique(np.concatenate(shown).astype(object), return_inverse=True)
        with self.check.bar(sum(its.nbytes for its in betas), path) as bar:
            for first in range(0, mean.shape[1], mean.shards[1]):
                stored = np.asarray(mean[:, first : first + mean.shards[1]])
                for lo in range(0, stored.shape[1], _VOXELS_AT_ONCE):
                    its = stored[:, lo : lo + _VOXELS_AT_ONCE].T
                    rows = slice(first + lo, first + lo + len(its))
                    scores = np.concatenate([_scores(session[rows]) for session in betas], axis=1)
                    own = [(MEAN.name, its, means := _means(scores, codes))]
                    if swapped is not None and noise is not None:
                        own += [(MEAN_BY_VOXEL.name, swapped[rows], its)]
                        own += [(NOISE.name, noise[rows], _noise(scores - means[:, codes], codes))]
                    for name, values, expected in own:
                        self._same_averages(f"{path}/{name}", rows, values, expected)
                    bar.update(len(codes) * its.nbytes // its.shape[1])

    def _same_averages(
        self, where: str, rows: slice, values: np.ndarray, expected: np.ndarray
    ) -> None:
        """Compare averages of some voxels: with others of the store exactly."""
        self.check.report.n_values += values.size
        exactly = expected.dtype == values.dtype
        near = 0 if exactly else _SAME
        if not np.allclose(values, expected, near, near, equal_nan=True):
            self.check.problem(
                f"{where}, voxels {rows.start}-{rows.stop - 1} in storage order: not the averages "
                "of the betas. Make them anew with 'laion-zarr convert --overwrite --parts "
                f"{AVERAGES_PART}'."
            )

    def _compare_maps(self, path: str, where: tuple[np.ndarray, ...]) -> None:
        """Compare 3-D images at the voxel indices `where`, or whole if `where` is empty."""
        for name, array in self.check.root[path].arrays():
            if "source" in array.attrs:
                image = self._load(array.attrs["source"]["file"])
                if image is not None:
                    values = _volume(image)[where]
                    stored = np.asarray(array[...])
                    self.check.same(f"{path}/{name}", stored, as_stored(values, stored.dtype))

    def _compare_voxels(self, group: str, ijk: tuple[np.ndarray, ...]) -> None:
        path = f"{group}/{VOXELS_PART}"
        for what, entry in self.check.root[path].attrs["sources"].items():
            image = self._load(entry["source"]["file"])
            if image is not None:
                volume = _volume(image)
                stored = self._voxel_row(path, *what.partition(":")[::2])
                self.check.same(f"{path} {what}", stored, as_stored(volume[ijk], stored.dtype))
                if stored.dtype == bool and f"in_{what}" in self.check.root[path]:
                    # No voxel of a mask may be missing on the stored voxel axis.
                    self.check.same(f"{path} {what} size", stored.sum(), (volume != 0).sum())

    def _voxel_row(self, path: str, kind: str, name: str) -> np.ndarray:
        if not name:
            return self.check.array(f"{path}/in_{kind}")
        names = self.check.array(f"{path}/{kind}").tolist()
        values = "roi_mask" if kind == "roi" else "noise_ceiling"
        return self.check.array(f"{path}/{values}")[names.index(name)]

    def _compare_trials(self, path: str, part: Part) -> None:
        assert self.check.folder is not None
        for file in part.sources:
            if file.endswith(".tsv") and self.check.converted(self.check.folder / file):
                table = read_text_table(self.check.folder / file, "\t")
                order = table["beta_index"].astype(int).argsort(kind="stable")
                table = table.iloc[order]
                self.check.same_table(path, table, trial_columns(table.columns))

    def _compare_surfaces(self, path: str) -> None:
        for node in self.check.root[path].group_keys():
            for name, array in self.check.root[f"{path}/{node}"].arrays():
                self._compare_surface(f"{path}/{node}/{name}", array)

    def _compare_surface(self, where: str, array: Any) -> None:
        assert self.check.folder is not None
        path = self.check.folder / array.attrs["source"]["file"]
        if not self.check.converted(path):
            return
        if path.name.endswith(".func.gii"):
            image = nib.gifti.GiftiImage.from_filename(path)
            self.check.same(where, np.asarray(array[...]), image.darrays[0].data.ravel() != 0)
        else:
            with warnings.catch_warnings():  # numpy warns that an empty label has no data
                warnings.simplefilter("ignore", UserWarning)
                vertices = np.atleast_1d(nib.freesurfer.read_label(path))
            self.check.same(where, np.asarray(array[...]), vertices)


def _scores(betas: np.ndarray) -> np.ndarray:
    """Z-scores of the betas of a session, (voxel, trial); NaN where they hardly vary."""
    values = betas.astype(np.float64)
    known = ~np.isnan(values)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    mean = np.where(known, values, 0).sum(axis=1, keepdims=True) / count
    values -= mean
    deviation = np.sqrt(np.square(np.where(known, values, 0)).sum(axis=1, keepdims=True) / count)
    rounding = 8 * np.finfo(betas.dtype).eps * np.abs(mean)
    return values / np.where(deviation > rounding, deviation, np.nan)


def _means(scores: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Mean of the scores of each code that are not NaN, (voxel, code)."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    known = ~np.isnan(scores[:, order])
    sums = np.add.reduceat(np.where(known, scores[:, order], 0), starts, axis=1)
    counts = np.add.reduceat(known, starts, axis=1, dtype=np.int64)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _noise(rest: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Square root of the variance (ddof 1) of each code, averaged over codes, (voxel,)."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    known = ~np.isnan(rest[:, order])
    squares = np.add.reduceat(np.where(known, rest[:, order], 0) ** 2, starts, axis=1)
    counts = np.add.reduceat(known, starts, axis=1, dtype=np.int64)
    repeated = counts > 1
    variances = np.where(repeated, squares / np.maximum(counts - 1, 1), 0)
    n_repeated = repeated.sum(axis=1)
    mean = variances.sum(axis=1) / np.maximum(n_repeated, 1)
    return np.where(n_repeated > 0, np.sqrt(mean), np.nan)


def _volume(image: Any) -> np.ndarray:
    """Values of a 3-D image, which some programs write as 4-D of one volume."""
    values = np.asanyarray(image.dataobj)
    return values[..., 0] if values.ndim == 4 else values
