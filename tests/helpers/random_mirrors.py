"""Random small mirrors of the release: written, and read again, without the package.

The mirrors are written, and the answers computed, by nibabel, numpy and pandas alone; file names
are spelled out here once more, as the release has them.
"""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import settings
from hypothesis import strategies as st

from laion_zarr import convert, load_subject
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


def some_of(values):
    return st.lists(st.sampled_from(values), unique=True).map(lambda found: tuple(sorted(found)))


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
        other = np.ones((2, 2, 2))  # the ROI on the localizers' grid
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
    np.testing.assert_array_equal(dataset.attrs["affine"], np.ravel(files.affine))


# -- questions, drawn at random


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


# -- a mirror with a bit of everything


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


# -- mirrors with many trials and voxels


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


# xarray's own advice on chunks=, of no interest here.
any_chunks = pytest.mark.filterwarnings("ignore:The specified chunks separate:UserWarning")
