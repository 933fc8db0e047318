"""Random small mirrors of the release: what the package answers is what is in the files.

The mirrors are written, and the answers computed, by nibabel, numpy and pandas alone; file names
are spelled out here once more, as the release has them.
"""

from __future__ import annotations

import gzip
import json
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from unittest import mock

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from laion_zarr import convert, load_subject, verify
from laion_zarr.conversion import budget
from laion_zarr.errors import NotConvertedError, SourceError
from laion_zarr.subject import Subject

SUB = "sub-07"
GLM = f"derivatives/glmsingle-tedana/{SUB}"
ANAT = f"derivatives/anatomical/{SUB}/ses-PrismaAnat/anat/{SUB}_ses-PrismaAnat_space-T1w"
MASK_FILES = {
    "anatomical": f"{ANAT}_res-1pt8_desc-brain_mask.nii.gz",
    "rsquare": f"{GLM}/{SUB}_task-images_space-T1w_stat-rsquare_desc-R2mean_statmap.nii.gz",
}
FULL_MASK = f"{ANAT}_desc-brain_mask.nii.gz"
MAP_FILES = {
    "session_noise_ceiling": "space-T1w_desc-Noiseceiling_statmap.nii.gz",
    "r2": "space-T1w_stat-rsquare_desc-R2_statmap.nii.gz",
    "hrf_index": "space-T1w_desc-HRFindex_dseg.nii.gz",
    "fracridge": "space-T1w_desc-Fracridge_statmap.nii.gz",
}
METADATA = "stimuli/task-images_metadata.csv"
CEILINGS = ("Noiseceiling4rep", "Noiseceiling12rep", "NoiseceilingAllrep")
ROIS = {
    "EBA": "body",
    "FBA": "body",
    "FFA1": "face",
    "laiongeneral": "laion",
    "V1d": "retinotopy",
    "hV4": "retinotopy",
}
LABELS = (
    "shared_12rep_LAION_cluster_1003_i0.jpg",
    "shared_4rep_OOD_gabor_tilt-1.png",
    "shared_4rep_NSD_special1000_17.jpg",
    "unique_LAION_initial_cluster_2817_i38_p05.jpg",
    "unique_LAION_initial_cluster_31_i2_p05.jpg",
)
CHUNK, SLAB = 128, 17_280  # as docs/store.md promises them


def examples(short, long):
    """How many examples to try, in CI and by ``--long``."""
    return settings(max_examples=long if settings.get_current_profile_name() == "long" else short)


# -- what a mirror may look like


@dataclass(frozen=True)
class Session:
    name: str
    n_trials: int
    kind: str  # how the betas lie in the file
    holes: str
    maps: tuple[str, ...]
    shuffled: bool


@dataclass(frozen=True)
class Spec:
    seed: int
    sides: tuple[int, int, int]
    oblique: bool
    masks: dict[str, str]
    sessions: tuple[Session, ...]
    rois: dict[str, str]
    surfaces: bool
    ceilings: tuple[str, ...]
    stimuli: bool
    further_columns: bool
    full_mask: bool


FLOATS = ("<f4", ">f4", "<f8", ">f8", "scaled <f4", "scaled >f8")
INTEGERS = ("i1", "u1", "<i2", ">i2", ">u2", "<i4", "<u4", ">i8", "scaled <i2", "scaled >i2")
KINDS = (*FLOATS, *INTEGERS)
HOLES = ("none", "voxel", "volume", "some", "infinite", "all")


def some_of(values):
    return st.lists(st.sampled_from(values), unique=True).map(lambda found: tuple(sorted(found)))


@st.composite
def sessions(draw):
    names = draw(st.lists(st.integers(1, 30), min_size=1, max_size=3, unique=True))
    return tuple(
        Session(
            f"ses-{number:02d}",
            draw(st.sampled_from([1, 2, 3, 5, 7, 11, 13, 17, 19])),
            draw(st.sampled_from(KINDS)),
            draw(st.sampled_from(HOLES)),
            draw(some_of(tuple(MAP_FILES))),
            draw(st.booleans()),
        )
        for number in sorted(names)
    )


@st.composite
def mirrors(draw):
    kinds = st.sampled_from([None, "one", "few", "some", "most", "all"])
    masks = {"anatomical": draw(kinds), "rsquare": draw(kinds)}
    masks = {name: kind for name, kind in masks.items() if kind is not None}
    assume(masks)
    roi_kinds = st.sampled_from(["empty", "one", "all", "outside", "few", "some", "most"])
    return Spec(
        seed=draw(st.integers(0, 2**32 - 1)),
        sides=draw(st.tuples(*[st.integers(1, 9)] * 3)),
        oblique=draw(st.booleans()),
        masks=masks,
        sessions=draw(sessions()),
        rois=draw(st.dictionaries(st.sampled_from(sorted(ROIS)), roi_kinds)),
        surfaces=draw(st.booleans()),
        ceilings=draw(some_of(CEILINGS)),
        stimuli=draw(st.booleans()),
        further_columns=draw(st.booleans()),
        full_mask=draw(st.booleans()),
    )


# -- writing it


def write_nifti(path, values, affine, dtype="<f4", slope=np.nan, inter=np.nan):
    dtype = np.dtype(dtype)
    big = dtype.newbyteorder("=") != dtype
    header = nib.Nifti1Header(endianness=">" if big else "<")
    header.set_data_dtype(dtype)
    header.set_data_shape(values.shape)
    header.set_zooms((*nib.affines.voxel_sizes(affine), *(1,) * (values.ndim - 3)))
    header.set_sform(affine, 1)
    header.set_qform(affine, 1)
    header["scl_slope"], header["scl_inter"] = slope, inter
    header["vox_offset"] = 352
    with np.errstate(over="ignore"):
        raw = values.astype(dtype).tobytes(order="F")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4) + raw, 1, mtime=0))


def write_table(path, table, separator):
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, sep=separator, index=False)


def inside(rng, kind, shape):
    """A mask of one of the kinds of `mirrors`."""
    if kind == "one":
        found = np.zeros(shape, dtype=bool)
        found[tuple(rng.integers(0, shape))] = True
        return found
    share = {"empty": 0, "few": 0.1, "some": 0.4, "most": 0.9, "all": 1}[kind]
    found = rng.random(shape) < share
    if kind in ("few", "some", "most"):
        found[tuple(rng.integers(0, shape))] = True
    return found


def affine_of(rng, oblique):
    affine = np.diag([-1.7778, 1.7778, 1.7778, 1.0])
    if oblique:
        turned = nib.eulerangles.euler2mat(*rng.uniform(-0.6, 0.6, 3))
        affine[:3, :3] = turned @ np.diag([-1.7778, 2.1, 1.5])
    affine[:3, 3] = rng.uniform(-130, 130, 3)
    return affine.astype(np.float32).astype(float)


def beta_values(rng, shape, session):
    dtype = np.dtype(session.kind.removeprefix("scaled "))
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype.newbyteorder("="), endpoint=True)
    values = rng.normal(0, 2, shape)
    values[rng.random(shape) < 0.1] = 0
    holes = {
        "none": (),
        "voxel": tuple(rng.integers(0, shape[:3])),
        "volume": (..., rng.integers(0, shape[3])),
        "some": rng.random(shape) < 0.2,
        "infinite": rng.random(shape) < 0.2,
        "all": ...,
    }[session.holes]
    if session.holes == "infinite":
        values[holes] = rng.choice([np.inf, -np.inf, -0.0, 1e-42, 3e38, 1e300], holes.sum())
    elif session.holes != "none":
        values[holes] = np.nan
    return values


def write_session(root, rng, spec, session, affine):
    func = root / GLM / session.name / "func" / f"{SUB}_{session.name}_task-images_"
    shape = (*spec.sides, session.n_trials)
    scale = {}
    if session.kind.startswith("scaled "):
        scale = {"slope": rng.uniform(-3, 3), "inter": rng.uniform(-50, 50)}
    elif rng.random() < 0.5:  # three ways to say: not scaled
        scale = {"slope": rng.choice([0, 1]), "inter": 0}
    path = Path(f"{func}space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz")
    dtype = session.kind.removeprefix("scaled ")
    write_nifti(path, beta_values(rng, shape, session), affine, dtype, **scale)
    table = pd.DataFrame(
        {
            "session": session.name,
            "run": np.sort(rng.integers(1, 13, session.n_trials)),
            "beta_index": np.arange(session.n_trials),
            "label": rng.choice(LABELS, session.n_trials),
        }
    )
    if spec.further_columns:
        table["onset"] = rng.uniform(0, 300, session.n_trials).round(3)
        table["note"] = rng.choice(["NA", "", "None", "a b"], session.n_trials)
    if session.shuffled:
        table = table.sample(frac=1, random_state=int(rng.integers(1000)))
    write_table(Path(f"{func}desc-SingletrialBetas_trials.tsv"), table, "\t")
    for name in session.maps:
        write_nifti(Path(f"{func}{MAP_FILES[name]}"), percents(rng, spec.sides), affine)


def percents(rng, shape):
    return rng.choice([np.nan, -4, 0, 1, 12.5, 33.25, 50, 100], shape)


def write_surface(root, rng, roi, n_vertices):
    for hemi, n in zip("LR", n_vertices, strict=True):
        vertices = np.flatnonzero(rng.random(n) < rng.choice([0, 0.3]))
        mask = np.zeros(n, np.float32)
        mask[vertices] = 1
        stem = root / f"derivatives/rois/{SUB}/{ROIS[roi]}/{SUB}_hemi-{hemi}_space-fsnative"
        image = nib.gifti.GiftiImage(darrays=[nib.gifti.GiftiDataArray(mask)])
        nib.save(image, f"{stem}_label-{roi}_mask.func.gii")
        rows = [f"{vertex}  1.0  2.0  3.0 1.0" for vertex in rng.permutation(vertices)]
        text = "\n".join(["#!ascii label", str(len(rows)), *rows]) + "\n"
        Path(f"{stem}_label-{roi}_mask.label").write_text(text)


def write_mirror(spec: Spec, root: Path) -> None:
    rng = np.random.default_rng(spec.seed)
    affine = affine_of(rng, spec.oblique)
    masks = {name: inside(rng, kind, spec.sides) for name, kind in spec.masks.items()}
    for name, mask in masks.items():
        # Whatever is not 0 is in: negative and NaN too. And -0 is 0.
        values = np.where(mask, 1.0, 0.0)
        if name == "rsquare":
            values = np.where(
                mask, rng.choice([-2.5, np.nan, 1e-30, 17.0], mask.shape), rng.choice([0, -0.0])
            )
        dtype = "<f4" if name == "rsquare" else "u1"
        write_nifti(root / MASK_FILES[name], values, affine, dtype)
    for session in spec.sessions:
        write_session(root, rng, spec, session, affine)
    n_vertices = rng.integers(5, 30, 2)
    for roi, kind in spec.rois.items():
        if kind == "outside":
            mask = ~np.logical_or.reduce(list(masks.values()))
        else:
            mask = inside(rng, kind, spec.sides)
        stem = f"derivatives/rois/{SUB}/{ROIS[roi]}/{SUB}_space-T1w_res"
        write_nifti(root / f"{stem}-1pt8_label-{roi}_mask.nii.gz", mask, affine, "u1")
        other = np.ones((2, 2, 2))  # the twin on another grid is nobody's business
        write_nifti(root / f"{stem}-1pt5_label-{roi}_mask.nii.gz", other, affine, "u1")
        if spec.surfaces:
            write_surface(root, rng, roi, n_vertices)
    for desc in spec.ceilings:
        path = root / GLM / f"{SUB}_task-images_space-T1w_desc-{desc}_statmap.nii.gz"
        write_nifti(path, percents(rng, spec.sides), affine)
    if spec.full_mask:
        write_nifti(root / FULL_MASK, inside(rng, "some", (4, 6, 5)), affine, "u1")
    if spec.stimuli:
        names = rng.permutation([*LABELS, "shared_4rep_OOD_shape_x.png"])
        table = pd.DataFrame({"image_name": names, "dataset": rng.choice(["LAION", "NSD"], 6)})
        table["unique_or_shared"] = ["unique" if "unique" in name else "shared" for name in names]
        table["score"] = rng.normal(5, 1, 6).round(4)
        table["width"] = rng.integers(0, 1000, 6)
        if rng.random() < 0.3:  # not of every image
            table = table[1:]
        write_table(root / METADATA, table, ",")


# -- reading it again, without the package


def read_nifti(path: Path) -> np.ndarray:
    """Values in C order of the grid (…, trial last), float32, rounded once."""
    image = nib.load(path)
    raw = np.asarray(image.dataobj.get_unscaled())
    with np.errstate(over="ignore", invalid="ignore"):
        if (image.dataobj.slope, image.dataobj.inter) != (1, 0):
            raw = raw.astype(np.float64) * image.dataobj.slope + image.dataobj.inter
        return raw.astype(np.float32)


def flat(path: Path) -> np.ndarray:
    return np.ascontiguousarray(read_nifti(path)).ravel()


@dataclass
class Files:
    """What the files of a mirror say; arrays are flat over the whole grid, in C order."""

    root: Path
    masks: dict[str, np.ndarray] = field(init=False)
    rois: dict[str, np.ndarray] = field(init=False)
    sessions: list[str] = field(init=False)

    def __post_init__(self) -> None:
        found = {name: self.root / path for name, path in MASK_FILES.items()}
        found = {name: path for name, path in found.items() if path.exists()}
        image = nib.load(next(iter(found.values())))
        self.shape, self.affine = image.shape, image.affine
        self.masks = {
            name: np.asarray(nib.load(p).dataobj).ravel() != 0 for name, p in found.items()
        }
        self.union = np.flatnonzero(np.logical_or.reduce(list(self.masks.values())))
        self.sessions = sorted(p.name for p in (self.root / GLM).glob("ses-*"))
        volumes = sorted(self.root.glob(f"derivatives/rois/{SUB}/*/*_res-1pt8_label-*"))
        names = [path.name.split("label-")[1].split("_")[0] for path in volumes]
        self.rois = dict(sorted(zip(names, [flat(p) != 0 for p in volumes], strict=True)))
        self.ceilings = {}
        for path in sorted((self.root / GLM).glob("*_desc-Noiseceiling*_statmap.nii.gz")):
            self.ceilings[path.name.split("desc-")[1].split("_")[0]] = flat(path)

    def func(self, session: str, tail: str) -> Path:
        return self.root / GLM / session / "func" / f"{SUB}_{session}_task-images_{tail}"

    @cached_property
    def betas(self) -> np.ndarray:
        """(trial, grid), sessions in order."""
        every = []
        for session in self.sessions:
            name = "space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz"
            volumes = np.moveaxis(read_nifti(self.func(session, name)), -1, 0)
            every.append(np.ascontiguousarray(volumes).reshape(len(volumes), -1))
        return np.concatenate(every)

    @cached_property
    def maps(self) -> dict[str, dict[str, np.ndarray]]:
        return {
            name: {
                session: flat(self.func(session, tail))
                for session in self.sessions
                if self.func(session, tail).exists()
            }
            for name, tail in MAP_FILES.items()
        }

    def tsv(self, session: str) -> pd.DataFrame:
        path = self.func(session, "desc-SingletrialBetas_trials.tsv")
        table = pd.read_csv(path, sep="\t", keep_default_na=False)
        return table.sort_values("beta_index").reset_index(drop=True)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """All trials, with everything that is derived from their labels."""
        tables = [self.tsv(session) for session in self.sessions]
        for table in tables:
            table["session_trial"] = range(len(table))
        table = pd.concat(tables, ignore_index=True)
        table["image_name"] = table["label"]
        shared = table["label"].str.startswith("shared_")
        table["unique_or_shared"] = np.where(shared, "shared", "unique")
        table["repetition"] = [
            table["label"][:row].tolist().count(label) for row, label in enumerate(table["label"])
        ]
        if (path := self.root / METADATA).exists():
            metadata = pd.read_csv(path)
            names = metadata["image_name"].tolist()
            rows = [names.index(name) if name in names else -1 for name in table["label"]]
            table["stim_idx"] = rows
            for name in metadata.columns.difference(table.columns):
                column, missing = metadata[name].tolist(), "" if name == "dataset" else np.nan
                table[name] = [missing if row < 0 else column[row] for row in rows]
        return table

    def resolve(self, query) -> list[str]:
        items = [query] if isinstance(query, str) else list(query)
        return [roi for roi in self.rois if {"all", roi, ROIS[roi]} & set(items)]

    def in_rois(self, query) -> np.ndarray:
        found = np.zeros(np.prod(self.shape), dtype=bool)
        for roi in self.resolve(query):
            found |= self.rois[roi]
        return found

    def axis(self, mask_source: str | None) -> np.ndarray:
        """Flat indices of a voxel axis."""
        return self.union if mask_source is None else np.flatnonzero(self.masks[mask_source])

    def ceiling(self, session: str | None) -> np.ndarray | None:
        """The map that a threshold is meant in; None if there is none."""
        if session is None:
            return self.ceilings.get("NoiseceilingAllrep")
        return self.maps["session_noise_ceiling"].get(session)


@dataclass
class Case:
    """A mirror, what its files say, and its conversion."""

    files: Files
    store: Path

    @cached_property
    def sub(self) -> Subject:
        return load_subject(SUB, self.store)


@contextmanager
def converted(spec: Spec) -> Iterator[Case]:
    with tempfile.TemporaryDirectory() as folder:
        root, store = Path(folder, "mirror"), Path(folder, "laion-fmri.zarr")
        write_mirror(spec, root)
        report = convert(root, store, n_workers=1, progress=False)
        assert not report.failed
        yield Case(Files(root), store)


# -- comparing


def same(found, expected):
    """Equal in type, shape and every bit: NaN, the sign of 0 and all."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)
    if found.dtype.kind == "f":
        numbers = ~np.isnan(expected)
        assert found[numbers].tobytes() == expected[numbers].tobytes()


def same_voxel_labels(array, files: Files, voxels):
    """All coordinates along voxel."""
    same(array["voxel"], voxels)
    ijk = np.stack(np.unravel_index(voxels, files.shape), axis=1)
    for name, column in zip("ijk", ijk.T, strict=True):
        np.testing.assert_array_equal(array[name].values, column)
    xyz = nib.affines.apply_affine(files.affine, ijk)
    for name, column in zip("xyz", xyz.T, strict=True):
        np.testing.assert_allclose(array[name].values, column, rtol=1e-12, atol=1e-10)
    for name in ("anatomical", "rsquare"):
        if name in files.masks:
            same(array[f"in_{name}"], files.masks[name][voxels])
        else:
            assert f"in_{name}" not in array.coords


def same_trial_labels(array, files: Files, trials):
    """All coordinates along trial."""
    same(array["trial"], trials)
    table = files.trials.drop(columns="label")
    for name, column in table.items():
        values = array[name].values
        assert values.shape == (len(trials),)
        np.testing.assert_array_equal(values, column.to_numpy()[trials], err_msg=name)
        assert (values.dtype == object) == (column.dtype.kind not in "if"), name
    along = {name for name, coord in array.coords.items() if coord.dims == ("trial",)}
    assert along == {*table.columns, "trial"}


def same_betas(betas, files: Files, trials, voxels):
    assert betas.dims == ("trial", "voxel")
    assert betas.chunks is not None
    assert betas.attrs["units"] == "percent signal change"
    same(betas.values, files.betas[np.ix_(trials, voxels)])
    same_voxel_labels(betas, files, voxels)
    same_trial_labels(betas, files, trials)


def same_dataset(dataset, files: Files, trials, voxels, sessions=None):
    """`sessions` are those asked for: their maps stay, and no others."""
    same_betas(dataset["betas"], files, trials, voxels)
    maps = {name: found for name, found in files.maps.items() if found}
    tables = {"roi_mask"} if files.rois else set()
    tables |= {"noise_ceiling"} if files.ceilings else set()
    assert set(dataset.data_vars) == {"betas", *maps, *tables}
    if files.rois:
        assert dataset["roi"].values.tolist() == list(files.rois)
        assert dataset["category"].values.tolist() == [ROIS[roi] for roi in files.rois]
        assert dataset["roi_mask"].dims == ("roi", "voxel")
        same(dataset["roi_mask"], np.stack([mask[voxels] for mask in files.rois.values()]))
    if files.ceilings:
        assert dataset["noise_ceiling"].dims == ("nc", "voxel")
        assert dataset["nc"].values.tolist() == sorted(files.ceilings)
        for desc, values in files.ceilings.items():
            same(dataset["noise_ceiling"].sel(nc=desc), values[voxels])
    for name, found in maps.items():
        assert dataset[name].dims == ("session_id", "voxel")
        kept = [ses for ses in files.sessions if sessions is None or ses in sessions]
        assert dataset["session_id"].values.tolist() == kept
        for session in kept:
            missing = np.full(np.prod(files.shape), np.nan, np.float32)
            expected = found.get(session, missing)[voxels]
            same(dataset[name].sel(session_id=session), expected)
    assert dataset.attrs["subject"] == SUB
    assert tuple(dataset.attrs["shape"]) == files.shape
    np.testing.assert_array_equal(dataset.attrs["affine"], files.affine)


# -- what is asked


def roi_queries(files: Files):
    names = [*files.rois, *{ROIS[roi] for roi in files.rois}, "all"]
    return st.sampled_from(names) | st.lists(st.sampled_from(names), max_size=3)


@st.composite
def masks_over(draw, axis):
    """A boolean mask of a voxel axis as a user may have it -> (what is passed, voxels marked)."""
    marked = np.array(draw(st.lists(st.booleans(), min_size=len(axis), max_size=len(axis))), bool)
    form = draw(st.sampled_from(["array", "list", "labelled", "permuted", "partial"]))
    chosen = axis[marked]
    if form in ("array", "list"):
        return (marked if form == "array" else marked.tolist()), chosen
    order = np.arange(len(axis))
    if form != "labelled":
        order = np.array(draw(st.permutations(range(len(axis)))), dtype=int)
    if form == "partial":  # voxels that a labelled mask does not name are out
        order = order[: draw(st.integers(0, len(axis)))]
        chosen = np.intersect1d(axis[order], chosen)
    labelled = xr.DataArray(marked[order], {"voxel": axis[order]}, dims="voxel")
    return labelled, chosen


@st.composite
def voxel_selections(draw, files: Files, with_threshold=True, with_mask=True):
    """Arguments that select voxels -> (arguments, function session -> voxels or None)."""
    mask_source = draw(st.sampled_from(sorted(files.masks)))
    axis = files.axis(mask_source)
    arguments, keep = {"mask_source": mask_source}, np.isin(np.arange(np.prod(files.shape)), axis)
    what = draw(st.sampled_from(["nothing", "roi", "mask"]))
    if what == "roi" and files.rois:
        arguments["roi"] = draw(roi_queries(files))
        keep &= files.in_rois(arguments["roi"])
    elif what == "mask" and with_mask:
        arguments["mask"], marked = draw(masks_over(axis))
        keep &= np.isin(np.arange(keep.size), marked)
    if with_threshold and draw(st.booleans()):
        arguments["nc_threshold"] = draw(st.sampled_from([-10, 0, 1, 12.5, 33.25, 100, 101]))

    def voxels(session):
        if "nc_threshold" not in arguments:
            return np.flatnonzero(keep)
        ceiling = files.ceiling(session)
        if ceiling is None:
            return None
        return np.flatnonzero(
            keep & (np.nan_to_num(ceiling, nan=-np.inf) >= arguments["nc_threshold"])
        )

    return arguments, voxels


def block_sizes(size):
    return st.integers(1 + size // 6, size + 3) | st.just(-1)


@st.composite
def chunk_dicts(draw, n_trials, n_voxels):
    sizes = {"trial": block_sizes(n_trials), "voxel": block_sizes(n_voxels)}
    return {dim: draw(sizes[dim]) for dim in draw(some_of(("trial", "voxel")))}


def check_blocks(array, chunks):
    """Dask blocks are of the sizes asked for."""
    for dim, size in chunks.items():
        length = array.sizes[dim]
        whole = length if size == -1 else size
        blocks = array.chunksizes[dim]
        assert sum(blocks) == length
        assert all(block == whole for block in blocks[:-1])
        assert blocks[-1] <= whole


def trials_of(files: Files, session=None, stimuli=None):
    keep = np.ones(len(files.trials), dtype=bool)
    if session is not None:
        keep &= files.trials["session"].isin([session]).to_numpy()
    if stimuli is not None:
        keep &= np.array([label.startswith(f"{stimuli}_") for label in files.trials["label"]])
    return np.flatnonzero(keep)


def check_betas(case: Case, data):
    """`get_betas` with every combination of arguments."""
    files = case.files
    for _ in range(4):
        arguments, voxels = data.draw(voxel_selections(files))
        session = data.draw(
            st.none() | st.sampled_from(files.sessions) | some_of(tuple(files.sessions))
        )
        stimuli = data.draw(st.sampled_from([None, None, "shared", "unique"]))
        arguments["chunks"] = data.draw(st.none() | chunk_dicts(20, len(files.union)))
        asked = [session] if session is None or isinstance(session, str) else session
        ask = {"session": session, "stimuli": stimuli, **arguments}
        if any(voxels(each) is None for each in asked):
            with pytest.raises(NotConvertedError, match="noise ceiling"):
                case.sub.get_betas(**ask)
            continue
        found = case.sub.get_betas(**ask)
        if isinstance(found, dict):
            assert list(found) == list(session)
        for each in asked:
            betas = found[each] if isinstance(found, dict) else found
            check_blocks(betas, arguments["chunks"] or {})
            same_betas(betas, files, trials_of(files, each, stimuli), voxels(each))


def check_sel(case: Case, data):
    """`sel` with every combination of arguments; `dataset` is `sel` of nothing."""
    files = case.files
    everything = np.arange(len(files.trials)), files.union
    same_dataset(case.sub.dataset, files, *everything)
    with xr.open_dataset(case.store, engine="laion_zarr", group=SUB, chunks={}) as opened:
        same_dataset(opened, files, *everything)
    for _ in range(3):
        arguments, voxels = data.draw(voxel_selections(files, with_mask=False))
        if union := data.draw(st.booleans()):
            del arguments["mask_source"]
        ses = data.draw(st.none() | st.sampled_from(files.sessions) | some_of(files.sessions))
        image = data.draw(
            st.none()
            | st.sampled_from(files.trials["label"].tolist())
            | some_of(sorted(set(files.trials["label"])))
        )
        stimuli = data.draw(st.sampled_from([None, None, "shared", "unique"]))
        trial = data.draw(label_selections(np.arange(len(files.trials))))
        voxel = data.draw(label_selections(files.union))
        chunks = data.draw(st.none() | chunk_dicts(20, len(files.union)))
        ask = {"session": ses, "image_name": image, "stimuli": stimuli, "chunks": chunks}
        ask |= {"trial": trial, "voxel": voxel} | arguments
        listed = [ses] if isinstance(ses, str) else ses
        one = listed[0] if listed is not None and len(listed) == 1 else None
        kept = voxels(one)
        if kept is None:
            with pytest.raises(NotConvertedError, match="noise ceiling"):
                case.sub.sel(**ask)
            continue
        if union:
            kept = union_voxels(files, arguments, one)
        trials = trials_of(files, None, stimuli)
        if listed is not None:
            trials = trials[files.trials["session"].isin(listed).to_numpy()[trials]]
        if image is not None:
            names = [image] if isinstance(image, str) else image
            trials = trials[files.trials["label"].isin(names).to_numpy()[trials]]
        found = case.sub.sel(**ask)
        check_blocks(found["betas"], chunks or {})
        same_dataset(
            found,
            files,
            by_labels(trials, np.arange(len(files.trials)), trial),
            by_labels(kept, files.union, voxel),
            listed,
        )


def union_voxels(files: Files, arguments, session):
    """Voxels of the stored union, as `voxel_selections` restricts them."""
    keep = np.isin(np.arange(np.prod(files.shape)), files.union)
    if "roi" in arguments:
        keep &= files.in_rois(arguments["roi"])
    if "nc_threshold" in arguments:
        ceiling = np.nan_to_num(files.ceiling(session), nan=-np.inf)
        keep &= ceiling >= arguments["nc_threshold"]
    return np.flatnonzero(keep)


def label_selections(labels):
    """A label, labels in any order, or a slice of labels; None for all."""
    one = st.sampled_from(labels.tolist())
    ends = st.none() | one
    return (
        st.none()
        | one
        | st.lists(one, max_size=6)
        | st.lists(one, max_size=6).map(lambda found: np.array(found, dtype=int))
        | st.builds(slice, ends, ends, st.sampled_from([None, 1, 2, 3]))
    )


def by_labels(kept, axis, asked):
    """What stays of `kept`, in the order asked for; a label slice holds both its ends."""
    if asked is None:
        return kept
    if isinstance(asked, slice):
        lo = axis[0] if asked.start is None else asked.start
        hi = axis[-1] if asked.stop is None else asked.stop
        wanted = axis[(axis >= lo) & (axis <= hi)][:: asked.step]
    else:
        wanted = np.atleast_1d(np.asarray(asked, dtype=int))
    return wanted[np.isin(wanted, kept)]


def check_masks(case: Case, data):
    """Brain masks, ROIs, ceilings and coordinates; what is absent is named."""
    files, sub = case.files, case.sub
    for name in ("anatomical", "rsquare"):
        if name not in files.masks:
            other = next(iter(files.masks))
            with pytest.raises(NotConvertedError, match=f"mask_source='{other}'"):
                sub.get_betas(mask_source=name)
            with pytest.raises(NotConvertedError):
                sub.get_brain_mask(name)
            continue
        mask = sub.get_brain_mask(name)
        assert mask.dims == ("grid",)
        same(mask, files.masks[name])
        assert tuple(mask.attrs["shape"]) == files.shape
        np.testing.assert_array_equal(mask.attrs["affine"], files.affine)
        assert sub.get_n_voxels(name) == files.masks[name].sum()
    if (files.root / FULL_MASK).exists():
        image = nib.load(files.root / FULL_MASK)
        mask = sub.get_brain_mask(res=None)
        same(mask, np.asarray(image.dataobj).ravel() != 0)
        assert tuple(mask.attrs["shape"]) == image.shape
        np.testing.assert_array_equal(mask.attrs["affine"], image.affine)
    else:
        with pytest.raises(NotConvertedError):
            sub.get_brain_mask(res=None)
    assert sub.get_available_rois() == sorted(files.rois)
    assert sub.get_available_categories() == sorted({ROIS[roi] for roi in files.rois})
    for category in sub.get_available_categories():
        members = [roi for roi in files.rois if ROIS[roi] == category]
        assert sub.get_available_rois(category) == members
    check_rois(case, data)
    check_ceilings(case, data)
    arguments, voxels = data.draw(voxel_selections(files, with_threshold=False))
    found = sub.get_voxel_coordinates(**arguments)
    assert found.dims == ("voxel", "axis")
    assert found["axis"].values.tolist() == list("xyz")
    same(found["voxel"], voxels(None))
    ijk = np.stack(np.unravel_index(voxels(None), files.shape), axis=1)
    expected = nib.affines.apply_affine(files.affine, ijk)
    np.testing.assert_allclose(found.values, expected, rtol=1e-12, atol=1e-10)


def check_rois(case: Case, data):
    files, sub = case.files, case.sub
    source = data.draw(st.sampled_from(sorted(files.masks)))
    axis = files.axis(source)
    if not files.rois:
        with pytest.raises(NotConvertedError, match="no ROIs"):
            sub.get_roi_mask("EBA", source)
        return
    query = data.draw(roi_queries(files))
    mask = sub.get_roi_mask(query, mask_source=source)
    assert mask.dims == ("voxel",)
    same(mask, files.in_rois(query)[axis])
    same_voxel_labels(mask, files, axis)
    queries = [query] if isinstance(query, str) else query
    masks = sub.get_roi_masks(queries, mask_source=source)
    assert list(masks) == list(dict.fromkeys(queries))
    for each, found in masks.items():
        same(found, files.in_rois(each)[axis])
        same_voxel_labels(found, files, axis)
    check_roi_data(case, data, query, source)


FORMS = {
    "all": {"volume", "func.gii", "label"},
    "volume": {"volume"},
    "nii.gz": {"volume"},
    "gii": {"func.gii", "label"},
    "func.gii": {"func.gii"},
    "label": {"label"},
}


def check_roi_data(case: Case, data, query, source):
    files = case.files
    wanted = data.draw(st.sampled_from(sorted(FORMS)))
    hemi = data.draw(st.sampled_from(["all", "L", "R"]))
    has_surfaces = any(files.root.glob("derivatives/rois/*/*/*.label"))
    if not has_surfaces and "volume" not in FORMS[wanted]:
        with pytest.raises(NotConvertedError, match="surface"):
            case.sub.get_roi_data(query, wanted, hemi, source)
        return
    found = case.sub.get_roi_data(query, format=wanted, hemi=hemi, mask_source=source)
    assert set(found) == set(files.resolve(query))
    for roi, forms in found.items():
        assert ("volume" in forms) == ("volume" in FORMS[wanted])
        assert ("gii" in forms) == (has_surfaces and FORMS[wanted] != {"volume"})
        if "volume" in forms:
            same(forms["volume"], files.rois[roi][files.axis(source)])
        for side, surface in forms.get("gii", {}).items():
            assert set(surface) == FORMS[wanted] - {"volume"}
            stem = f"derivatives/rois/{SUB}/{ROIS[roi]}/{SUB}_{side}_space-fsnative_label-{roi}"
            if "func.gii" in surface:
                image = nib.load(files.root / f"{stem}_mask.func.gii")
                same(surface["func.gii"], image.darrays[0].data != 0)
            if "label" in surface:
                rows = (files.root / f"{stem}_mask.label").read_text().splitlines()[2:]
                assert surface["label"].tolist() == [int(row.split()[0]) for row in rows]
        if "gii" in forms:
            assert set(forms["gii"]) == (
                {"hemi-L", "hemi-R"} if hemi == "all" else {f"hemi-{hemi}"}
            )


def check_ceilings(case: Case, data):
    files, sub = case.files, case.sub
    arguments, voxels = data.draw(voxel_selections(files, with_threshold=False))
    kept = voxels(None)
    for desc in CEILINGS:
        if desc not in files.ceilings:
            with pytest.raises(NotConvertedError, match=desc):
                sub.get_noise_ceiling(desc=desc, **arguments)
    there = [*files.ceilings]
    for desc, found in sub.get_noise_ceiling(desc=there, **arguments).items():
        same(found, files.ceilings[desc][kept])
    for desc in there[:1]:
        found = sub.get_noise_ceiling(desc=desc, **arguments)
        assert found.dims == ("voxel",)
        assert found.attrs["units"] == "percent"
        same(found, files.ceilings[desc][kept])
        same_voxel_labels(found, files, kept)
    maps = files.maps["session_noise_ceiling"]
    for session in files.sessions:
        if session in maps:
            found = sub.get_noise_ceiling(session=session, **arguments)
            same(found, maps[session][kept])
            same_voxel_labels(found, files, kept)
        else:
            with pytest.raises(NotConvertedError, match=session):
                sub.get_noise_ceiling(session=session, **arguments)
    assert list(sub.get_noise_ceiling(session=[*maps], **arguments)) == [*maps]


def check_trials(case: Case, data):
    """Trial tables, metadata and what the stimuli are."""
    files, sub = case.files, case.sub
    assert sub.subject_id == SUB
    assert sub.get_sessions() == files.sessions
    metadata, expected = sub.metadata, files.trials
    assert isinstance(metadata.index, pd.RangeIndex)
    assert set(metadata.columns) == set(expected.columns)
    for name in expected.columns:
        np.testing.assert_array_equal(metadata[name], expected[name], err_msg=name)
    for session in files.sessions:
        found = sub.get_trial_info(session)
        pd.testing.assert_frame_equal(found, files.tsv(session))
        assert isinstance(found.index, pd.RangeIndex)
    asked = data.draw(some_of(files.sessions))
    assert list(sub.get_trial_info(asked)) == list(asked)
    assert not sub.has_stimuli()  # the pictures are not there
    if (path := files.root / METADATA).exists():
        table = pd.read_csv(path)
        pd.testing.assert_frame_equal(sub.get_stimulus_metadata(), table)
        assert sub.get_n_stimuli() == len(table)
        assert sub.get_n_stimuli("shared") == (table["unique_or_shared"] == "shared").sum()
    else:
        with pytest.raises(FileNotFoundError, match="metadata"):
            sub.get_stimulus_metadata()


def check_nifti(case: Case, data):
    """Values go back to the place that they came from, in whatever order they are."""
    files, sub = case.files, case.sub
    arguments, voxels = data.draw(voxel_selections(files, with_threshold=False))
    kept = voxels(None)
    suffix = data.draw(st.sampled_from([".nii", ".nii.gz"]))
    path = files.root / f"out{suffix}"
    session = data.draw(st.sampled_from(files.sessions))
    betas = sub.get_betas(session=session, **arguments)
    form = data.draw(st.sampled_from(["lazy", "permuted", "transposed", "array", "float64"]))
    order = np.array(data.draw(st.permutations(range(len(kept)))), dtype=int)
    values = {
        "lazy": lambda: betas,
        "permuted": lambda: betas.isel(voxel=order),
        "transposed": lambda: betas.isel(voxel=order[::2]).T,
        "array": lambda: betas.values,
        "float64": lambda: betas.values.astype(float),
    }[form]()
    placed = kept[order[::2]] if form == "transposed" else kept
    flat_only = data.draw(st.booleans())
    if flat_only:
        values = values.isel(trial=-1) if isinstance(values, xr.DataArray) else values[-1]
    assert sub.to_nifti(values, path, **arguments) == path
    rows = trials_of(files, session)
    expected = np.zeros((len(rows), np.prod(files.shape)), np.float32)
    expected[:, placed] = files.betas[np.ix_(rows, placed)]
    image = nib.load(path)
    assert image.get_data_dtype() == np.float32
    np.testing.assert_allclose(image.affine, files.affine, atol=1e-5)
    volumes = np.asarray(image.dataobj)
    if flat_only:
        same(volumes, expected[-1].reshape(files.shape))
    else:
        same(volumes, np.moveaxis(expected.reshape(len(rows), *files.shape), 0, -1))
    mask = next(iter(files.masks))
    sub.to_nifti(sub.get_brain_mask(mask).values[files.axis(mask)], path, mask_source=mask)
    same(nib.load(path).get_fdata() != 0, files.masks[mask].reshape(files.shape))


def check_verify(case: Case, data):
    """The package's own proof finds nothing to complain of."""
    mirror = case.files.root
    with warnings.catch_warnings():  # see test_verify_is_silent_about_…
        warnings.filterwarnings("ignore", "loadtxt", UserWarning)
        warnings.filterwarnings("ignore", "overflow", RuntimeWarning)
        report = verify(case.store, mirror, deep=True, progress=False)
    assert not report.notes
    assert report.n_values >= case.files.betas.shape[0] * len(case.files.union)


CHECKS = [
    check_betas,
    check_sel,
    check_masks,
    check_trials,
    check_nifti,
    check_verify,
]


@examples(18, 400)
@given(spec=mirrors(), data=st.data())
def test_answers_are_what_the_files_say(tally, spec, data):
    with converted(spec) as case:
        for check in CHECKS:  # together: converting takes longer than asking
            check(case, data)
    tally("random mirrors converted and asked")


# -- what random mirrors seldom have


def plain_spec(**changes) -> Spec:
    """A small mirror with a bit of everything."""
    days = [("ses-01", 5), ("ses-04", 3)]
    maps = ("session_noise_ceiling",)
    spec = Spec(
        seed=3,
        sides=(4, 6, 5),
        oblique=False,
        masks={"anatomical": "some", "rsquare": "some"},
        sessions=tuple(Session(*day, "<f4", "some", maps, False) for day in days),
        rois={"EBA": "some", "FFA1": "few"},
        surfaces=True,
        ceilings=("NoiseceilingAllrep",),
        stimuli=False,
        further_columns=False,
        full_mask=False,
    )
    return replace(spec, **changes)


def test_blocks_of_many_trials():
    """More trials and voxels than any tile of a transposition."""
    days = [("ses-01", 83), ("ses-02", 71)]
    spec = plain_spec(
        sides=(11, 13, 9),
        masks={"anatomical": "all"},
        sessions=tuple(Session(*day, "<f4", "some", (), True) for day in days),
    )
    with converted(spec) as case:
        files, sub = case.files, case.sub
        assert len(files.union) > 1024
        for chunks in (None, {"trial": -1}, {"trial": 100, "voxel": 1100}):
            same(sub.get_betas(chunks=chunks).values, files.betas)
            same(sub.get_betas(session="ses-02", chunks=chunks).values, files.betas[83:])
        with xr.open_dataset(case.store, engine="laion_zarr", group=SUB) as dataset:
            same(dataset["betas"][::-1, 5:].values, files.betas[::-1, 5:])
            same(dataset["betas"][1:, ::-1].values, files.betas[1:, ::-1])


@pytest.mark.parametrize("of_every_image", [True, False])
def test_integer_columns_of_the_stimuli(tmp_path, of_every_image):
    """They come along with the trials, also where no trial lacks one."""
    root, store = tmp_path / "mirror", tmp_path / "s.zarr"
    write_mirror(plain_spec(), root)
    names = LABELS if of_every_image else LABELS[1:]
    table = pd.DataFrame({"image_name": names, "width": range(500, 500 + len(names))})
    write_table(root / METADATA, table, ",")
    convert(root, store, n_workers=1, progress=False)
    labels = Files(root).trials["label"]
    assert LABELS[0] in labels.tolist()
    expected = labels.map(dict(zip(table["image_name"], table["width"], strict=True)))
    metadata = load_subject(SUB, store).metadata
    np.testing.assert_array_equal(metadata["width"], expected)
    assert np.issubdtype(metadata["width"].dtype, np.integer) == of_every_image


def test_float64_mask_is_not_rounded_first(tmp_path):
    """A mask voxel is in when its value is not 0, be it too small for float32."""
    root, values = tmp_path / "mirror", np.zeros((4, 6, 5))
    write_mirror(plain_spec(), root)
    values[1, 2:, 3] = [1e-60, -1e-300, 5, 0]
    affine = nib.load(root / MASK_FILES["anatomical"]).affine
    write_nifti(root / MASK_FILES["rsquare"], values, affine, "<f8")
    convert(root, tmp_path / "s.zarr", n_workers=1, progress=False)
    mask = load_subject(SUB, tmp_path / "s.zarr").get_brain_mask("rsquare")
    same(mask, values.ravel() != 0)


def test_verify_is_silent_about_huge_numbers(tmp_path):
    """A float64 beta beyond float32 is infinite in the store, as the rounding has it."""
    root, store = tmp_path / "mirror", tmp_path / "s.zarr"
    days = (Session("ses-01", 3, "<f8", "infinite", (), False),)
    write_mirror(plain_spec(sessions=days), root)
    convert(root, store, n_workers=1, progress=False)
    files = Files(root)
    betas = load_subject(SUB, store).sel()["betas"].values
    assert np.isinf(betas).any()
    same(betas, files.betas[:, files.union])
    assert not verify(store, root, deep=True, progress=False).notes


def test_verify_is_silent_about_empty_labels(tmp_path):
    """A region may lie in one hemisphere alone; its other label has no vertex."""
    root, store = tmp_path / "mirror", tmp_path / "s.zarr"
    write_mirror(plain_spec(), root)
    for path in root.glob(f"derivatives/rois/{SUB}/*/*.label"):
        path.write_text("#!ascii label\n0\n")
    convert(root, store, n_workers=1, progress=False)
    assert not verify(store, root, deep=True, progress=False).notes
    data = load_subject(SUB, store).get_roi_data("EBA", "label", "L")
    assert data["EBA"]["gii"]["hemi-L"]["label"].tolist() == []


def test_masks_without_a_voxel(tmp_path):
    """One empty mask is an empty axis; two are a source that contradicts itself."""
    root, empty = tmp_path / "mirror", np.zeros((4, 6, 5))
    write_mirror(plain_spec(), root)
    affine = nib.load(root / MASK_FILES["anatomical"]).affine
    write_nifti(root / MASK_FILES["anatomical"], empty, affine, "u1")
    convert(root, tmp_path / "one.zarr", n_workers=1, progress=False)
    sub = load_subject(SUB, tmp_path / "one.zarr")
    assert sub.get_n_voxels() == 0
    assert sub.get_betas().values.shape == (8, 0)
    rsquare = np.flatnonzero(Files(root).masks["rsquare"])
    same(sub.get_betas(mask_source="rsquare").values, Files(root).betas[:, rsquare])
    write_nifti(root / MASK_FILES["rsquare"], empty, affine)
    with pytest.raises(SourceError, match="mask"):
        convert(root, tmp_path / "two.zarr", n_workers=1, progress=False)


TAKEN = [
    "trial",
    "voxel",
    "betas",
    "betas_chunks",
    "image_name",
    "i",
    "x",
    "category",
    "in_rsquare",
]


@pytest.mark.parametrize("name", [*TAKEN, "roi", "nc", "session_id", "repetition", "a/b"])
def test_further_columns_hide_nothing(tmp_path, name):
    """A column of the trial table whose name the store itself needs: refused by name, or kept."""
    root, store = tmp_path / "mirror", tmp_path / "s.zarr"
    write_mirror(plain_spec(), root)
    for path in root.glob(f"{GLM}/*/func/*_trials.tsv"):
        table = pd.read_csv(path, sep="\t")
        table[name] = range(100, 100 + len(table))
        write_table(path, table, "\t")
    try:
        convert(root, store, n_workers=1, progress=False)
    except SourceError as error:
        assert name in str(error)  # noqa: PT017
        return
    files, sub = Files(root), load_subject(SUB, store)
    betas = sub.get_betas(roi="EBA", mask_source="rsquare")
    same(betas.values, files.betas[:, files.masks["rsquare"] & files.rois["EBA"]])
    assert betas["trial"].values.tolist() == list(range(8))
    assert betas["repetition"].values.tolist() == files.trials["repetition"].tolist()
    assert betas["image_name"].values.tolist() == files.trials["label"].tolist()
    # A name of an image stays text, even where all of them look like numbers.
    assert [int(value) for value in sub.get_trial_info("ses-04")[name]] == [100, 101, 102]
    # Nor to those who read the store by themselves.
    group = zarr.open_group(store / SUB, mode="r")
    stored = group["voxels/voxel"][:]
    assert group["trials/trial"][:].tolist() == list(range(8))
    same(group["ses-04/voxel"][:], stored)
    same(group["ses-04/betas"][:].T, files.betas[5:, stored])


# -- selection commutes with loading


def crowd_spec(number: int) -> Spec:
    """A mirror with enough trials and voxels to select among."""
    days = [("ses-02", 5, "<f4"), ("ses-03", 19, "scaled >i2"), ("ses-11", 1, "<f8")]
    maps = ("session_noise_ceiling", "r2")
    return Spec(
        seed=number,
        sides=[(9, 7, 8), (4, 9, 5)][number],
        oblique=True,
        masks={"anatomical": "some", "rsquare": ["most", "some"][number]},
        sessions=tuple(Session(*day, "some", maps, True) for day in days[: 3 - number]),
        rois={"EBA": "some", "FFA1": "few", "hV4": "one"},
        surfaces=False,
        ceilings=("NoiseceilingAllrep",),
        stimuli=False,
        further_columns=False,
        full_mask=False,
    )


@pytest.fixture(scope="module", params=[0, 1])
def crowd(request):
    with converted(crowd_spec(request.param)) as case:
        yield case


def in_memory(files: Files) -> xr.DataArray:
    """All betas of the stored union, from the files."""
    coords = {"trial": np.arange(len(files.trials)), "voxel": files.union}
    coords["session"] = ("trial", files.trials["session"].to_numpy(object))
    return xr.DataArray(files.betas[:, files.union], coords, dims=("trial", "voxel"))


def indexers(size):
    positions = st.integers(-size, size - 1)
    many = st.lists(positions, max_size=9).map(lambda found: np.array(found, dtype=int))
    flags = st.integers(0, 999).map(lambda seed: np.random.default_rng(seed).random(size) < 0.4)
    # xarray cannot read an empty slice that steps backwards from any lazy source.
    slices = st.slices(size).filter(lambda found: range(size)[found] or (found.step or 1) > 0)
    return positions | many | slices | flags


@st.composite
def selections(draw, sizes):
    """Positions or labels along some dims: integers, slices, repeated integers, booleans."""
    return {dim: draw(indexers(size)) for dim, size in sizes.items() if draw(st.booleans())}


def open_somehow(case: Case, whole: xr.DataArray, data) -> xr.DataArray:
    how = data.draw(st.sampled_from(["None", "{}", "explicit", "dataset", "sel"]))
    if how in ("dataset", "sel"):
        chunks = data.draw(chunk_dicts(*whole.shape)) if how == "sel" else None
        return (case.sub.sel(chunks=chunks) if how == "sel" else case.sub.dataset)["betas"]
    chunks = {"None": None, "{}": {}, "explicit": data.draw(chunk_dicts(*whole.shape))}[how]
    return xr.open_dataset(case.store, engine="laion_zarr", group=SUB, chunks=chunks)["betas"]


def check_selection(crowd: Case, data):
    whole = in_memory(crowd.files)
    lazy = open_somehow(crowd, whole, data)
    for _ in range(data.draw(st.integers(1, 3))):
        if not whole.ndim or 0 in whole.shape:
            break
        asked = data.draw(selections(dict(whole.sizes)))
        whole, lazy = whole.isel(asked), lazy.isel(asked)
    lazy = lazy.load()
    assert lazy.dims == whole.dims
    same(lazy.values, whole.values)
    for name in ("trial", "voxel"):
        same(lazy[name], whole[name])
    assert lazy["session"].values.tolist() == whole["session"].values.tolist()


def check_pointwise(crowd: Case, data):
    """Vectorised indexing: trial and voxel in pairs."""
    whole = in_memory(crowd.files)
    lazy = open_somehow(crowd, whole, data)
    shape = data.draw(st.sampled_from([(1,), (4,), (2, 3)]))
    size = int(np.prod(shape))
    points = {
        dim: xr.DataArray(
            np.reshape(
                data.draw(st.lists(st.integers(0, n - 1), min_size=size, max_size=size)), shape
            ),
            dims=("p", "q")[: len(shape)],
        )
        for dim, n in whole.sizes.items()
    }
    same(lazy.isel(points).load(), whole.isel(points))


def check_labels(crowd: Case, data):
    """Selection by label is that of the loaded array."""
    whole = in_memory(crowd.files)
    lazy = open_somehow(crowd, whole, data)
    asked = {
        dim: found
        for dim in ("trial", "voxel")
        if (found := data.draw(label_selections(whole[dim].values))) is not None
    }
    same(lazy.sel(asked).load(), whole.sel(asked))
    sessions = data.draw(some_of(crowd.files.sessions))
    keep = np.isin(whole["session"].values, sessions)
    same(lazy[keep].load(), whole[keep])


def check_chunked(crowd: Case, data):
    """Block sizes change how values are read, never the values."""
    arguments, _ = data.draw(voxel_selections(crowd.files))
    plain = crowd.sub.get_betas(**arguments)
    for method in ("get_betas", "sel"):
        if method == "sel" and "mask" in arguments:
            continue
        chunks = data.draw(chunk_dicts(*plain.shape))
        found = getattr(crowd.sub, method)(**arguments, chunks=chunks)
        betas = found["betas"] if method == "sel" else found
        check_blocks(betas, chunks)
        same(betas.values, plain.values)
        again = betas.chunk(data.draw(chunk_dicts(*plain.shape)))
        same(again.values, plain.values)


SELECTIONS = [check_selection, check_pointwise, check_labels, check_chunked]
each_selection = pytest.mark.parametrize("check", SELECTIONS, ids=lambda check: check.__name__[6:])
# xarray's own advice on chunks=, of no interest here.
any_chunks = pytest.mark.filterwarnings("ignore:The specified chunks separate:UserWarning")


@any_chunks
@each_selection
@examples(25, 500)
@given(data=st.data())
def test_selection_commutes(crowd, tally, check, data):
    check(crowd, data)
    tally("random selections that commute with loading")


# -- the bytes of a store


def tree(store: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes() if path.is_file() else b"folder"
        for path in sorted(store.rglob("*"))
    }


def check_bytes(spec: Spec, order):
    """The same mirror gives the same store: again, and session after session in any order."""
    with converted(spec) as case:
        once = tree(case.store)
        mirror = case.files.root
        report = convert(mirror, case.store, n_workers=1, progress=False)
        assert not report.converted
        assert tree(case.store) == once
        for name, batches in {
            "again": [None],
            "reversed": [[s.name for s in reversed(spec.sessions)]],
            "one by one": [[spec.sessions[n].name] for n in order],
        }.items():
            other = case.store.with_name(f"{name}.zarr")
            for sessions in batches:
                convert(mirror, other, sessions=sessions, n_workers=1, progress=False)
            found = tree(other)
            assert sorted(found) == sorted(once), name
            assert [key for key in once if found[key] != once[key]] == [], name


@st.composite
def orders(draw):
    spec = draw(mirrors())
    return spec, draw(st.permutations(range(len(spec.sessions))))


@examples(3, 60)
@given(asked=orders())
def test_store_depends_on_its_sources_alone(tally, asked):
    check_bytes(*asked)
    tally("random mirrors converted in any order")


def test_workers_do_not_change_the_store(crowd, tmp_path):
    """Sessions in processes of their own, in whatever order they end."""
    assert len(crowd.files.sessions) > 1
    convert(crowd.files.root, tmp_path / "s.zarr", n_workers=2, progress=False)
    assert tree(tmp_path / "s.zarr") == tree(crowd.store)


# -- the storage order


@st.composite
def axes(draw):
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=3, max_size=3)))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    voxels = np.flatnonzero(rng.random(shape) < draw(st.sampled_from([0.2, 0.7, 1])))
    assume(len(voxels))
    masks = rng.random((2, len(voxels))) < draw(st.sampled_from([0.1, 0.5, 0.9]))
    masks[1] |= ~masks[0]  # every voxel stored is in one of them
    rois = rng.random((draw(st.integers(0, 4)), len(voxels))) < 0.3
    return voxels, shape, masks, rois


def runs(labels, group):
    """Same labels side by side; in each run both masks first, then anatomical, then rsquare."""
    cuts = np.flatnonzero((labels[1:] != labels[:-1]).any(axis=1)) + 1
    pieces = np.split(np.arange(len(labels)), cuts) if len(labels) else []
    assert len({tuple(labels[piece[0]]) for piece in pieces}) == len(pieces)
    assert all((np.diff(group[piece]) >= 0).all() for piece in pieces)


@examples(100, 2000)
@given(axis=axes(), slab=st.integers(1, 60))
def test_storage_order(tally, axis, slab):
    tally("random voxel axes ordered")
    voxels, _, masks, rois = axis
    with mock.patch.object(budget, "SLAB_VOXELS", slab):
        stored = budget.storage_order(*axis)
    np.testing.assert_array_equal(np.sort(stored), voxels)
    position = np.searchsorted(voxels, stored)
    group = np.where(masks[0] & masks[1], 0, np.where(masks[0], 1, 2))[position]
    in_roi = rois.any(axis=0)[position]
    n_front = int(in_roi.sum())
    assert in_roi[:n_front].all()
    # Of ROIs, voxels of the same ones side by side, and the smallest ROI in one piece …
    runs(rois[:, position[:n_front]].T, group[:n_front])
    if len(rois) and n_front:
        smallest = rois[rois.sum(axis=1).argmin(), position[:n_front]]
        assert np.abs(np.diff(smallest.astype(int))).sum() <= 1
    # … and of the rest, slabs of the axis, in order.
    slabs = position[n_front:] // slab
    assert (np.diff(slabs) >= 0).all()
    runs(slabs[:, None], group[n_front:])


def test_storage_order_follows_space():
    """Inside one group of voxels, each is next to the one before: a curve without jumps."""
    shape = (8, 8, 8)
    voxels = np.arange(512)
    stored = budget.storage_order(voxels, shape, np.ones((2, 512), bool), np.zeros((0, 512), bool))
    ijk = np.stack(np.unravel_index(stored, shape), axis=1)
    np.testing.assert_array_equal(np.abs(np.diff(ijk, axis=0)).sum(axis=1), np.ones(511))


# -- more voxels than a slab


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Two masks, neither in the other, whose union of ~48,000 voxels spans three slabs."""
    folder = tmp_path_factory.mktemp("large")
    root, shape, affine = folder / "mirror", (37, 41, 47), np.diag([-4.0, 4.0, 4.0, 1.0])
    rng = np.random.default_rng(5)
    i, j, k = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    radius = i**2 + j**2 + k**2
    anatomical, rsquare = (radius < 1.15) & (i < 0.8), (radius < 1) | (rng.random(shape) < 0.1)
    write_nifti(root / MASK_FILES["anatomical"], anatomical, affine, "u1")
    write_nifti(root / MASK_FILES["rsquare"], rsquare * 7.5, affine)
    for n, session in enumerate(["ses-01", "ses-02"]):
        func = f"{root / GLM / session}/func/{SUB}_{session}_task-images_"
        values = rng.normal(0, 2, (*shape, 5 - n)).astype(np.float32)
        name = "space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz"
        write_nifti(Path(f"{func}{name}"), values, affine)
        rows = {"session": session, "run": 1, "beta_index": np.arange(5 - n)[::-1]}
        table = pd.DataFrame(rows | {"label": LABELS[: 5 - n]})
        write_table(Path(f"{func}desc-SingletrialBetas_trials.tsv"), table, "\t")
    rois = {"EBA": rng.random(shape) < 0.02, "FFA1": np.abs(i - 0.3) < 0.03, "hV4": i < -0.9}
    for roi, mask in rois.items():
        stem = f"derivatives/rois/{SUB}/{ROIS[roi]}/{SUB}_space-T1w_res-1pt8"
        write_nifti(root / f"{stem}_label-{roi}_mask.nii.gz", mask, affine, "u1")
    convert(root, folder / "laion-fmri.zarr", n_workers=1, progress=False)
    case = Case(Files(root), folder / "laion-fmri.zarr")
    assert 2 * SLAB < len(case.files.union) < 3 * SLAB
    return case


@pytest.mark.parametrize("mask_source", ["anatomical", "rsquare"])
@pytest.mark.parametrize("roi", [None, "EBA", "FFA1", "hV4", ["body", "hV4"]])
@pytest.mark.parametrize("session", [None, "ses-02"])
def test_betas_across_slabs(large, mask_source, roi, session):
    files = large.files
    voxels = files.axis(mask_source)
    if roi is not None:
        voxels = voxels[files.in_rois(roi)[voxels]]
        assert len(voxels)
    betas = large.sub.get_betas(session=session, roi=roi, mask_source=mask_source)
    same_betas(betas, files, trials_of(files, session), voxels)


def test_dataset_across_slabs(large):
    files, dataset = large.files, large.sub.dataset
    blocks = ((5, 4), (SLAB, SLAB, len(files.union) - 2 * SLAB))
    assert dataset["betas"].chunks == blocks
    same_dataset(dataset, files, np.arange(9), files.union)
    with xr.open_dataset(large.store, engine="laion_zarr", group=SUB, chunks={}) as opened:
        assert opened["betas"].chunks == blocks
        same(opened["betas"].values, files.betas[:, files.union])


@any_chunks
@pytest.mark.parametrize("opened", ["dataset", "engine", "chunked engine"])
@pytest.mark.parametrize(
    ("trial", "voxel"),
    [
        (slice(None), slice(SLAB - 300, SLAB + 300)),
        (slice(None, None, -1), slice(None, None, -997)),
        ([8, 0, 0, 4, 5], np.array([SLAB, SLAB - 1, 0, -1, SLAB])),
        ([3, 1, 0, 4, 2], slice(0, 700)),
        (-1, slice(None)),
        (slice(4, 6), SLAB),
        (np.arange(9) % 2 == 1, slice(10, None, CHUNK)),
    ],
    ids=["border", "backwards", "repeated", "shuffled", "one trial", "one voxel", "strided"],
)
def test_selection_across_slabs(large, opened, trial, voxel):
    dataset = large.sub.dataset
    if opened != "dataset":
        chunks = {"trial": -1, "voxel": 9001} if opened == "chunked engine" else None
        dataset = xr.open_dataset(large.store, engine="laion_zarr", group=SUB, chunks=chunks)
    whole = in_memory(large.files)
    same(dataset["betas"][trial, voxel].values, whole[trial, voxel].values)
    if isinstance(trial, list):  # the same, in two steps
        same(dataset["betas"][:, voxel][trial].values, whole[trial, voxel].values)


@pytest.mark.parametrize("chunks", [{"voxel": 9001}, {"trial": -1, "voxel": 20_000}, {"trial": 2}])
def test_chunks_across_slabs(large, chunks):
    betas = large.sub.get_betas(mask_source="rsquare", chunks=chunks)
    check_blocks(betas, chunks)
    same(betas.values, large.files.betas[:, large.files.axis("rsquare")])


def test_store_of_three_slabs_is_plain_zarr(large):
    """zarr-python alone reads the same values; ROIs first, then runs of the axis."""
    files, n_trials = large.files, {"ses-01": 5, "ses-02": 4}
    first = 0
    for session, count in n_trials.items():
        group = zarr.open_group(large.store / SUB / session, mode="r")
        stored, betas = group["voxel"][:], group["betas"]
        assert betas.metadata.dimension_names == ("voxel", "trial")
        assert (betas.chunks, betas.shards) == ((CHUNK, count), (SLAB, count))
        same(betas[:].T, files.betas[first : first + count][:, stored])
        first += count
        in_roi = files.in_rois("all")[stored]
        n_front = int(in_roi.sum())
        assert in_roi[:n_front].all()
        slabs = np.searchsorted(files.union, stored[n_front:]) // SLAB
        assert (np.diff(slabs) >= 0).all()
        assert set(slabs.tolist()) == {0, 1, 2}


def test_nifti_across_slabs(large, tmp_path):
    betas = large.sub.get_betas(session="ses-02", mask_source="rsquare")
    shuffled = betas.isel(voxel=np.random.default_rng(0).permutation(betas.sizes["voxel"]))
    path = large.sub.to_nifti(shuffled, tmp_path / "b.nii")
    expected = np.where(large.files.masks["rsquare"], large.files.betas[5:], np.float32(0))
    found = np.moveaxis(np.asarray(nib.load(path).dataobj), -1, 0)
    same(found, expected.reshape(4, *large.files.shape))


def test_manifest_lists_every_file(large):
    """Nothing lies in a store that its manifests do not account for."""
    listed = {"zarr.json", "manifest.json", f"{SUB}/manifest.json"}
    manifest = json.loads((large.store / SUB / "manifest.json").read_text())
    listed |= {f"{SUB}/{key}" for key in manifest["files"]}
    for part in manifest["parts"].values():
        listed |= {f"{part['path']}/{key}" for key in part["files"]}
    assert {key for key, data in tree(large.store).items() if data != b"folder"} == listed
