"""A mirror made by hand on a 5 × 4 × 3 grid, its conversion, and checks of stores against it.

The expected values come from nibabel and numpy. A test file imports fixtures as ``name as name``,
which tells the linter that they are used.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from recon_files import write_recon

from laion_zarr import convert, load_subject
from laion_zarr.conversion.cli import main
from laion_zarr.conversion.options import check_options
from laion_zarr.conversion.run.pipeline import run_conversion
from laion_zarr.conversion.source.files import open_source
from laion_zarr.errors import NotConvertedError, SourceError

SHAPE = (5, 4, 3)
AFFINE = np.array([[-1.7778, 0, 0, 4], [0, 1.7778, 0, -3.5], [0, 0, 1.7778, -2], [0, 0, 0, 1]])
N_TRIALS = {"sub-01": {"ses-01": 6, "ses-02": 5}, "sub-03": {"ses-01": 4}}
ROIS = {"EBA": "body", "FFA1": "face", "FFA2": "face", "laiongeneral": "laion"}
CEILINGS = ("Noiseceiling12rep", "Noiseceiling4rep", "NoiseceilingAllrep")
N_VERTICES = {"L": 10, "R": 12}
LABELS = [f"shared_12rep_LAION_cluster_{n}_i0.jpg" for n in range(3)] + [
    f"unique_LAION_initial_cluster_{n}_i3_p01.jpg" for n in range(4)
]
GLM = "derivatives/glmsingle-tedana"
METADATA = "stimuli/task-images_metadata.csv"
MAPS = {
    "session_noise_ceiling": "space-T1w_desc-Noiseceiling_statmap",
    "r2": "space-T1w_stat-rsquare_desc-R2_statmap",
    "fracridge": "space-T1w_desc-Fracridge_statmap",
}
MAPS_OF = {"ses-01": ("session_noise_ceiling",), "ses-02": tuple(MAPS)}  # of sub-01
IMAGES = {
    "t1w": "res-1pt8_T1w",
    "t2w": "res-1pt8_T2w",
    "brain_mask": "res-1pt8_desc-brain_mask",
    "brain_mask_full": "desc-brain_mask",
}
# sub-03 has a session and the mask it takes, and nothing else.
BARE = {"anatomical", "surfaces", *ROIS, *CEILINGS, *IMAGES, "ses-01 session_noise_ceiling"}
LEAN = {"surfaces", *ROIS, *CEILINGS, "t1w", "t2w", "brain_mask_full"} | {
    f"{ses} {name}" for ses, names in MAPS_OF.items() for name in names
}
# What mends it: a command, an option, or an act.
MENDS = re.compile(
    r"laion-zarr [a-z]|[Dd]ownload|Delete it|Name |Pass |pip install|Mend |Convert |--[a-z]+"
)


# -- names, as the release has them


def func_file(tail, sub="sub-01", ses="ses-02"):
    return f"{GLM}/{sub}/{ses}/func/{sub}_{ses}_task-images_{tail}"


def betas_file(sub="sub-01", ses="ses-02"):
    return func_file("space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz", sub, ses)


def trials_file(sub="sub-01", ses="ses-02"):
    return func_file("desc-SingletrialBetas_trials.tsv", sub, ses)


def map_file(name, sub="sub-01", ses="ses-02"):
    return func_file(f"{MAPS[name]}.nii.gz", sub, ses)


def ceiling_file(desc, sub="sub-01"):
    return f"{GLM}/{sub}/{sub}_task-images_space-T1w_desc-{desc}_statmap.nii.gz"


def anatomy_file(name, sub="sub-01"):
    folder = f"derivatives/anatomical/{sub}/ses-PrismaAnat/anat"
    return f"{folder}/{sub}_ses-PrismaAnat_space-T1w_{IMAGES[name]}.nii.gz"


def mask_file(source, sub="sub-01"):
    if source == "anatomical":
        return anatomy_file("brain_mask", sub)
    return f"{GLM}/{sub}/{sub}_task-images_space-T1w_stat-rsquare_desc-R2mean_statmap.nii.gz"


def roi_file(roi, sub="sub-01"):
    name = f"{sub}_space-T1w_res-1pt8_label-{roi}_mask.nii.gz"
    return f"derivatives/rois/{sub}/{ROIS[roi]}/{name}"


def surface_file(roi, hemi, form, sub="sub-01"):
    name = f"{sub}_hemi-{hemi}_space-fsnative_label-{roi}_mask.{form}"
    return f"derivatives/rois/{sub}/{ROIS[roi]}/{name}"


def sidecar_file(path):
    return re.sub(r"\.(nii\.gz|tsv)$", ".json", path)


# -- the mirror, byte by byte


def nifti(values, affine=AFFINE, slope=1.0, intercept=0.0, order="<", **fields):
    """A NIfTI file with the raw values given; `fields` are set in the header as they are."""
    values = np.asarray(values)
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(values.dtype.newbyteorder(order))
    header.set_data_shape(values.shape)
    header.set_sform(affine, 1)
    header.set_qform(affine, 1)
    for name, value in {
        "vox_offset": 352,
        "scl_slope": slope,
        "scl_inter": intercept,
        **fields,
    }.items():
        header[name] = value
    return header.binaryblock + bytes(4) + values.astype(header.get_data_dtype()).tobytes("F")


def pack(data):
    return gzip.compress(data, mtime=0)


def put(root, path, data):
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink():
        target.unlink()
    target.write_bytes(data.encode() if isinstance(data, str) else data)


def volume(root, path, values, **options):
    put(root, path, pack(nifti(values, **options)))
    put(root, sidecar_file(path), json.dumps({"Description": Path(path).name}))


def gifti(mask):
    array = nib.gifti.GiftiDataArray(
        mask.astype(np.float32), intent="NIFTI_INTENT_SHAPE", datatype="NIFTI_TYPE_FLOAT32"
    )
    return nib.gifti.GiftiImage(darrays=[array]).to_bytes()


def label_text(vertices, count=None):
    rows = [f"{vertex}  1.0  2.0  3.0 1.0" for vertex in vertices]
    return "\n".join(["#!ascii label", str(len(rows) if count is None else count), *rows]) + "\n"


def write_surfaces(root, roi, rng, hemis="LR"):
    for hemi in hemis:
        mask = rng.random(N_VERTICES[hemi]) < 0.5
        put(root, surface_file(roi, hemi, "func.gii"), gifti(mask))
        vertices = rng.permutation(np.flatnonzero(mask))  # in no order
        put(root, surface_file(roi, hemi, "label"), label_text(vertices))


def random_betas(rng, n_trials):
    values = rng.normal(size=(*SHAPE, n_trials)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    values[0, 0] = 0
    return values


def trial_table(ses, n_trials, rng):
    return pd.DataFrame(
        {
            "session": ses,
            "run": np.arange(n_trials) // 3 + 1,
            "beta_index": np.arange(n_trials),
            "label": rng.choice(LABELS, n_trials),
        }
    )


def write_table(root, path, table):
    put(root, path, table.to_csv(sep="\t" if path.endswith("tsv") else ",", index=False))


def write_session(root, sub, ses, rng):
    n_trials = N_TRIALS[sub][ses]
    volume(root, betas_file(sub, ses), random_betas(rng, n_trials))
    write_table(root, trials_file(sub, ses), trial_table(ses, n_trials, rng))
    put(root, sidecar_file(trials_file(sub, ses)), json.dumps({"run": {"Description": "Run"}}))


def write_mirror(root):
    rng = np.random.default_rng(0)
    for sub, sessions in N_TRIALS.items():
        for ses in sessions:
            write_session(root, sub, ses, rng)
        volume(root, mask_file("rsquare", sub), (rng.random(SHAPE) < 0.6).astype(np.float32))
    # Neither mask holds the other.
    volume(root, mask_file("anatomical"), (rng.random(SHAPE) < 0.6).astype(np.uint8))
    full = (rng.random((7, 8, 9)) < 0.5).astype(np.uint8)
    volume(root, anatomy_file("brain_mask_full"), full, affine=AFFINE / 2)
    paths = [anatomy_file(name) for name in ("t1w", "t2w")]
    paths += [ceiling_file(desc) for desc in CEILINGS]
    paths += [map_file(name, ses=ses) for ses, names in MAPS_OF.items() for name in names]
    for path in paths:
        volume(root, path, 100 * rng.random(SHAPE, dtype=np.float32))
    for roi in ROIS:
        volume(root, roi_file(roi), (rng.random(SHAPE) < 0.4).astype(np.uint8))
        write_surfaces(root, roi, rng)
    write_recon(root)
    metadata = {
        "image_name": LABELS[::-1],
        "dataset": "LAION",
        "unique_or_shared": [name.partition("_")[0] for name in LABELS[::-1]],
    }
    write_table(root, METADATA, pd.DataFrame(metadata))
    return root


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The undamaged mirror, from which all answers come; nothing may change it."""
    return write_mirror(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="session")
def whole_store(whole, tmp_path_factory):
    """The conversion of `whole`; nothing may change it."""
    path = tmp_path_factory.mktemp("whole-store") / "store.zarr"
    report = convert(whole, path, progress=False)
    assert not report.failed
    lacks = ("sub-03: no ", "sub-01: no localizer maps", "sub-01: no events", "no stimulus ")
    assert all(line.startswith(lacks) for line in report.missing)
    return path


@pytest.fixture(scope="session")
def first_store(whole_lean, tmp_path_factory):
    """The conversion of the first session of the lean mirror; nothing may change it."""
    path = tmp_path_factory.mktemp("first-store") / "store.zarr"
    convert(whole_lean, path, sessions="01", progress=False)
    return path


@pytest.fixture(scope="session")
def whole_lean(whole, tmp_path_factory):
    """The betas of sub-01 and what they cannot do without: quick to convert."""
    root = tmp_path_factory.mktemp("lean")
    for ses in N_TRIALS["sub-01"]:
        for path in (betas_file(ses=ses), trials_file(ses=ses)):
            put(root, path, (whole / path).read_bytes())
    for source in ("anatomical", "rsquare"):
        put(root, mask_file(source), (whole / mask_file(source)).read_bytes())
    return root


@pytest.fixture
def lean(whole_lean, tmp_path):
    """A copy of the lean mirror, to be damaged."""
    return Path(shutil.copytree(whole_lean, tmp_path / "lean"))


@pytest.fixture
def mirror(whole, tmp_path):
    """A copy of the mirror, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "mirror"))


@pytest.fixture
def kept(whole_store, tmp_path):
    """A copy of the store, to be damaged or written to."""
    return Path(shutil.copytree(whole_store, tmp_path / "kept.zarr"))


@pytest.fixture
def first(first_store, tmp_path):
    """A copy of the lean store that lacks a session, for that session."""
    return Path(shutil.copytree(first_store, tmp_path / "first.zarr"))


@pytest.fixture
def new(tmp_path):
    """Where a new store goes."""
    return tmp_path / "new.zarr"


@pytest.fixture
def sub(whole_store):
    return load_subject("sub-01", whole_store)


# -- answers, by nibabel and numpy


def read_nifti(path):
    return _read_nifti(path, path.stat().st_mtime_ns).copy()


@lru_cache
def _read_nifti(path, changed):
    """Values as the release means them: scaled in float64, rounded to float32 once."""
    image = nib.load(path)
    raw, slope, intercept = (
        np.asanyarray(image.dataobj.get_unscaled()),
        image.dataobj.slope,
        image.dataobj.inter,
    )
    if (slope, intercept) == (1, 0):
        return raw.astype(np.float32)
    return (raw.astype(np.float64) * slope + intercept).astype(np.float32)


def flat(root, path):
    return read_nifti(root / path).ravel()  # C order


def inside(root, source, sub="sub-01"):
    if source != "union":
        return flat(root, mask_file(source, sub)) != 0
    there = [s for s in ("anatomical", "rsquare") if (root / mask_file(s, sub)).exists()]
    return np.logical_or.reduce([inside(root, source, sub) for source in there])


def answer_betas(root, sub, ses, source):
    values = read_nifti(root / betas_file(sub, ses))
    return values.reshape(-1, values.shape[3])[inside(root, source, sub)].T


def same(found, expected):
    """Equal bit for bit, NaN included."""
    assert found.dtype == expected.dtype
    bits = {4: np.uint32, 1: np.uint8}[expected.dtype.itemsize]
    np.testing.assert_array_equal(
        np.ascontiguousarray(found).view(bits), np.ascontiguousarray(expected).view(bits)
    )


def check_sessions(root, subject, sessions, sources):
    assert subject.get_sessions() == sessions
    for source in sources:
        answers = [answer_betas(root, subject.subject_id, ses, source) for ses in sessions]
        same(subject.get_betas(mask_source=source).values, np.concatenate(answers))
    for ses in sessions:
        table = pd.read_csv(root / trials_file(subject.subject_id, ses), sep="\t")
        table = table.sort_values("beta_index", ignore_index=True)
        pd.testing.assert_frame_equal(subject.get_trial_info(ses), table, check_dtype=False)


def check_surfaces(root, subject, lacks):
    # A region without its volume has no name to ask for: a test of its own.
    for roi in [roi for roi in ROIS if roi not in lacks]:
        data = subject.get_roi_data(roi, "gii")[roi]["gii"]
        for hemi in "LR":
            found = dict(data.get(f"hemi-{hemi}", {}))
            if f"{roi} {hemi} func.gii" not in lacks:
                image = nib.load(root / surface_file(roi, hemi, "func.gii"))
                same(found.pop("func.gii"), image.darrays[0].data != 0)
            if f"{roi} {hemi} label" not in lacks:
                lines = (root / surface_file(roi, hemi, "label")).read_text().split("\n")[2:-1]
                assert found.pop("label").tolist() == [int(line.split()[0]) for line in lines]
            assert not found


def check(root, store, lacks=(), subject="sub-01"):
    """The store answers as the files of `root` do, in all but what it `lacks`."""
    sub = load_subject(subject, store)
    sources = [source for source in ("anatomical", "rsquare") if source not in lacks]
    sessions = [ses for ses in N_TRIALS[subject] if ses not in lacks]
    check_sessions(root, sub, sessions, sources)
    rois = [roi for roi in ROIS if roi not in lacks]
    assert sub.get_available_rois() == sorted(rois)
    descs = [desc for desc in CEILINGS if desc not in lacks]
    assert sub.dataset.coords.get("nc", xr.DataArray([])).values.tolist() == sorted(descs)
    union = np.flatnonzero(np.logical_or.reduce([inside(root, s, subject) for s in sources]))
    assert sub.dataset["voxel"].values.tolist() == union.tolist()
    for source in sources:
        here = inside(root, source, subject)
        for roi in rois:
            mask = sub.get_roi_mask(roi, mask_source=source)
            same(mask.values, (flat(root, roi_file(roi, subject)) != 0)[here])
        for desc in descs:
            ceiling = sub.get_noise_ceiling(desc=desc, mask_source=source)
            same(ceiling.values, flat(root, ceiling_file(desc, subject))[here])
    for ses in sessions:
        for name in MAPS:
            if name in MAPS_OF[ses] and f"{ses} {name}" not in lacks:
                found = sub.dataset[name].sel(session_id=ses).values
                same(found, flat(root, map_file(name, subject, ses))[union])
            elif name in sub.dataset:
                assert np.isnan(sub.dataset[name].sel(session_id=ses).values).all()
    for name in set(IMAGES) - set(lacks):
        found = zarr.open_array(f"{store}/{subject}/anatomy/{name}", mode="r")[:]
        expected = read_nifti(root / anatomy_file(name, subject))
        same(found, expected if name in ("t1w", "t2w") else expected != 0)
    if "surfaces" not in lacks:
        check_surfaces(root, sub, lacks)


def names_and_mends(text, *words):
    for word in words:
        assert str(word) in text
    assert MENDS.search(text), text


def teaches(error, *words):
    """A source error names the file, what was expected, what was found, and what mends it."""
    assert isinstance(error, SourceError)
    names_and_mends(str(error), "expected", "found", *words)


def report_of(root, store, **options):
    """Report of a conversion, failures included, without raising."""
    keys = ("subjects", "sessions", "parts", "mask", "n_workers", "memory", "overwrite")
    given = {"mask": "both", "overwrite": False, **options}
    checked = check_options(*(given.get(key) for key in keys))
    return run_conversion(open_source(root), store, None, checked, False, False)


def command(root, store, *options):
    return main(["convert", "--source", str(root), "--store", str(store), "--quiet", *options])


def tree(folder, pattern="**/*"):
    """Every file, with all that would tell that it was touched."""
    files = [path for path in sorted(folder.glob(pattern)) if path.is_file()]
    return {
        str(path.relative_to(folder)): (
            path.stat().st_ino,
            path.stat().st_mtime_ns,
            path.read_bytes(),
        )
        for path in files
    }


def shards(store):
    found = tree(store, "sub-*/ses-*/betas/c/**/*")
    assert found
    return found


def storage_order(store, sub="sub-01"):
    return zarr.open_array(f"{store}/{sub}/voxels/voxel", mode="r")[:].tolist()


# -- damages of a NIfTI file


def flip(data, at):
    data = bytearray(data)
    data[at] ^= 0x10
    return bytes(data)


def unpacked(change):
    """A change of the NIfTI inside, with a gzip that is right."""
    return lambda data: pack(change(gzip.decompress(data)))


def with_header(**fields):
    def change(data):
        header = nib.Nifti1Header(data[:348], check=False)
        for name, value in fields.items():
            header[name] = value
        return header.binaryblock + data[348:]

    return unpacked(change)


def betas_like(shape, dtype=np.float32, affine=AFFINE):
    return lambda _: pack(nifti(np.ones(shape, dtype), affine=affine))


def moved(mm):
    affine = AFFINE.copy()
    affine[1, 3] += mm
    return affine


HTML = b"<!DOCTYPE html><html><head><title>403</title></head><body>Access denied</body></html>"
DAMAGES = {
    "empty": lambda data: b"",
    "one byte": lambda data: data[:1],
    "cut in the gzip header": lambda data: data[:7],
    "gzip header only": lambda data: data[:10],
    "cut in the NIfTI header": lambda data: data[:60],
    "cut in the middle": lambda data: data[: len(data) // 2],
    "cut before the end": lambda data: data[:-9],
    "no trailer": lambda data: data[:-8],
    "half a trailer": lambda data: data[:-4],
    "last byte missing": lambda data: data[:-1],
    "flipped in the middle": lambda data: flip(data, len(data) // 2),
    "flipped checksum": lambda data: flip(data, -8),
    "flipped length": lambda data: flip(data, -1),
    "garbage after the end": lambda data: data + b"garbage!",
    "web page": lambda data: HTML,
    "not packed": gzip.decompress,
    "not a NIfTI": lambda data: pack(b"x" * 1000),
    "too little data": unpacked(lambda data: data[:-4]),
    "too much data": unpacked(lambda data: data + bytes(4)),
    "header of a pair": with_header(magic=b"ni1"),
    "complex numbers": betas_like((*SHAPE, 5), np.complex64),
    "unknown data type": with_header(datatype=9999),
    "data offset NaN": with_header(vox_offset=np.nan),
    "data offset 0": with_header(vox_offset=0),
    "data offset far beyond": with_header(vox_offset=1e30),
    "negative side": with_header(dim=[4, 5, -4, 3, 5, 1, 1, 1]),
    "no sides": with_header(dim=[0, 5, 4, 3, 5, 1, 1, 1]),
    "intercept infinite": with_header(scl_slope=2, scl_inter=np.inf),
    "affine NaN": with_header(srow_x=[np.nan] * 4),
    "3-D": betas_like(SHAPE),
    "5-D": betas_like((*SHAPE, 1, 5)),
    "fewer volumes": betas_like((*SHAPE, 4)),
    "more volumes": betas_like((*SHAPE, 6)),
    "other shape": betas_like((4, 5, 3, 5)),
    "other affine": betas_like((*SHAPE, 5), affine=moved(0.01)),
}


# -- files that a mirror lacks


def remove(root, *patterns):
    for pattern in patterns:
        found = [path for path in root.glob(pattern) if path.is_file() or path.is_symlink()]
        assert found, pattern
        for path in found:
            path.unlink()


NO_SURFACES = [
    "derivatives/rois/sub-01/*/*.func.gii",
    "derivatives/rois/sub-01/*/*.label",
]
ALL_MAPS = [
    f"{GLM}/sub-01/ses-*/func/*Noiseceiling_*",
    f"{GLM}/sub-01/ses-*/func/*R2_*",
    f"{GLM}/sub-01/ses-*/func/*Fracridge_*",
]


# -- errors of wrong questions


def not_converted(ask, *words):
    with pytest.raises(NotConvertedError) as caught:
        ask()
    names_and_mends(str(caught.value), "laion-zarr", *words)


def wrong(ask, *words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        ask()
    for word in words:
        assert str(word) in str(caught.value)
