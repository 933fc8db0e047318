"""Bad, partial and vanishing input, and wrong questions: a clear error, and all else right.

The mirror is made by hand on a 5 × 4 × 3 grid; answers come from nibabel and numpy on its files.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
from functools import lru_cache
from pathlib import Path

import google_crc32c
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

from laion_zarr import convert, load_subject
from laion_zarr.conversion.cli import main
from laion_zarr.conversion.options import check_options
from laion_zarr.conversion.run.pipeline import run_conversion
from laion_zarr.conversion.source.files import open_source
from laion_zarr.errors import (
    DataDirNotSetError,
    DataNotDownloadedError,
    LaionZarrError,
    NotConvertedError,
    SourceError,
    StimuliNotDownloadedError,
    StoreError,
    SubjectNotFoundError,
)

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
    lacks = ("sub-03: no ", "no stimulus ")
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
    """What a conversion did, without raising."""
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


def contents(folder, pattern="**/*"):
    return {name: data for name, (_, _, data) in tree(folder, pattern).items()}


def shards(store):
    found = tree(store, "sub-*/ses-*/betas/c/**/*")
    assert found
    return found


def storage_order(store, sub="sub-01"):
    return zarr.open_array(f"{store}/{sub}/voxels/voxel", mode="r")[:].tolist()


# -- damaged betas


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


WORDS = {
    "web page": ["web page"],
    "empty": ["empty"],
    "3-D": ["3-D", "4-D"],
    "fewer volumes": ["found 4 volumes", "expected 5"],
    "more volumes": ["found 6 volumes", "expected 5"],
    "other shape": ["(4, 5, 3)", "(5, 4, 3)"],
    "other affine": ["0.01 mm"],
    "cut in the middle": ["gzip"],
    "no trailer": ["gzip"],
    "flipped checksum": ["gzip"],
    "flipped length": ["gzip"],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_betas(lean, whole_lean, first, damage):
    path = betas_file()
    put(lean, path, DAMAGES[damage]((whole_lean / path).read_bytes()))
    report = report_of(lean, first)
    assert list(report.failed) == ["sub-01 ses-02"]
    teaches(report.failed["sub-01 ses-02"], lean / path, *WORDS.get(damage, []))
    check(whole_lean, first, lacks={"ses-02", *LEAN})


@pytest.mark.parametrize("damage", ["cut in the middle", "3-D"])
def test_damaged_betas_on_the_command_line(mirror, whole, new, capsys, damage):
    path = betas_file()
    put(mirror, path, DAMAGES[damage]((whole / path).read_bytes()))
    assert command(mirror, new) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert str(mirror / path) in line
    check(whole, new, lacks={"ses-02"})
    check(whole, new, subject="sub-03", lacks=BARE)
    before = shards(new)
    assert command(mirror, new) == 1  # asked again, it says so again, and touches nothing else
    assert shards(new) == before
    put(mirror, path, (whole / path).read_bytes())
    assert command(mirror, new) == 0
    check(whole, new)


@pytest.mark.parametrize("damage", ["empty", "no trailer", "3-D"])
def test_damage_after_conversion_loses_nothing(mirror, whole, kept, damage):
    before = contents(kept)
    path = betas_file()
    put(mirror, path, DAMAGES[damage]((whole / path).read_bytes()))
    with pytest.raises(SourceError) as caught:
        convert(mirror, kept, progress=False)
    teaches(caught.value, mirror / path)
    check(whole, kept)
    assert contents(kept) == before


def test_all_damages_are_said_at_once(mirror, whole, new, capsys):
    for path in (betas_file(), roi_file("EBA"), ceiling_file("Noiseceiling4rep")):
        put(mirror, path, HTML)
    with pytest.raises(SourceError) as caught:
        convert(mirror, new, progress=False)
    for path in (betas_file(), roi_file("EBA"), ceiling_file("Noiseceiling4rep")):
        assert str(mirror / path) in str(caught.value)
    check(whole, new, lacks={"ses-02", "EBA", "Noiseceiling4rep"})
    assert command(mirror, new) == 1
    assert capsys.readouterr().err.count("error:") == 3


# -- number types


def scaled(raw, slope, intercept):
    return (raw.astype(np.float64) * slope + intercept).astype(np.float32)


TYPES = [
    ("int16", 0.013, 3.7),
    ("int16", 1, 0),
    (">i2", 0.013, -0.4),
    ("uint8", 0.5, -2),
    ("uint8", 0.3, 0),
    ("int8", 1 / 3, 0.1),
    ("uint16", 1e-3, 7),
    ("int32", 1e-7, 1 / 3),
    ("int64", 3e-5, 0.1),
    ("float64", 1, 0),
    ("float64", 1.7, 0.3),
    (">f8", 0.1, 1e-3),
    (">f4", 1, 0),
    ("float32", 2.3, 0.7),
    ("float32", 0, 5),
    ("float32", np.nan, 5),
    ("int16", 0, 5),
    ("int16", np.nan, np.nan),
    (">f4", -1.1, 0),
]


@pytest.mark.parametrize(("dtype", "slope", "intercept"), TYPES)
def test_number_types(lean, first, dtype, slope, intercept):
    kind = np.dtype(dtype)
    rng = np.random.default_rng(7)
    if kind.kind == "f":
        raw = (100 * rng.normal(size=(*SHAPE, 5))).astype(kind.newbyteorder("="))
        raw[rng.random(raw.shape) < 0.2] = np.nan
    else:
        info = np.iinfo(kind)
        raw = rng.integers(max(info.min, -(2**40)), min(info.max, 2**40), (*SHAPE, 5))
        raw = raw.astype(kind.newbyteorder("="))
    order = ">" if dtype.startswith(">") else "<"
    put(lean, betas_file(), pack(nifti(raw, slope=slope, intercept=intercept, order=order)))
    convert(lean, first, subjects="01", sessions="02", progress=False)
    # The header holds slope and intercept as float32.
    slope, intercept = float(np.float32(slope)), float(np.float32(intercept))
    none = slope == 0 or np.isnan(slope) or (slope, intercept) == (1, 0)
    expected = raw.astype(np.float32) if none else scaled(raw, slope, intercept)
    subject = load_subject("sub-01", first)
    for source in ("anatomical", "rsquare"):
        found = subject.get_betas("ses-02", mask_source=source).values
        wanted = expected.reshape(-1, 5)[inside(lean, source)].T
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))


def test_scaling_in_float32_would_be_seen():
    """The numbers above tell scaling in float64 from scaling in float32."""
    raw = np.arange(-300, 300, dtype=np.int16)
    slope, intercept = np.float32(0.013), np.float32(3.7)
    rounded_twice = raw.astype(np.float32) * slope + intercept
    assert (scaled(raw, float(slope), float(intercept)) != rounded_twice).any()


@pytest.mark.parametrize("order", ["<", ">"])
def test_float32_is_kept_bit_for_bit(lean, first, order):
    odd = np.array(
        [0x7FC00000, 0xFFC00001, 0x7FC0BEEF, 0x80000000, 1, 0x7F800000, 0xFF800000, 0x00400000],
        np.uint32,
    ).view(np.float32)
    values = np.resize(odd, (*SHAPE, 5))
    put(lean, betas_file(), pack(nifti(values, order=order)))
    convert(lean, first, subjects="01", sessions="02", progress=False)
    found = load_subject("01", first).get_betas("ses-02").values
    same(found, values.reshape(-1, 5)[inside(lean, "anatomical")].T)


def test_plain_nii_gives_the_same(mirror, whole, new):
    for path in sorted(mirror.rglob("*.nii.gz")):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert command(mirror, new) == 0
    check(whole, new)
    check(whole, new, subject="sub-03", lacks=BARE)


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d[:200], lambda d: d + b"x"])
def test_damaged_plain_nii(lean, whole_lean, first, change):
    path = lean / betas_file()
    path.unlink()
    path.with_suffix("").write_bytes(
        change(gzip.decompress((whole_lean / betas_file()).read_bytes()))
    )
    report = report_of(lean, first)
    assert list(report.failed) == ["sub-01 ses-02"]
    teaches(report.failed["sub-01 ses-02"], path.with_suffix(""))
    check(whole_lean, first, lacks={"ses-02", *LEAN})


@pytest.mark.parametrize(
    "values",
    [
        np.float32([-1, np.nan, np.inf, 1e-40]),
        np.array([-1, np.nan, 1e-300, 5e200]),
        np.array([1, -1, 300, -300], np.int16),
    ],
    ids=["float32", "float64", "int16"],
)
@pytest.mark.parametrize("source", ["anatomical", "rsquare"])
def test_a_mask_voxel_is_in_unless_zero(lean, new, source, values):
    mask = np.zeros(SHAPE, values.dtype)
    mask[0, 1, :2], mask[3, :2, 2] = values[:2], values[2:]
    mask[2, 2, 2] = 1
    put(lean, mask_file(source), pack(nifti(mask)))
    convert(lean, new, subjects="01", sessions="01", parts="betas", progress=False)
    found = load_subject("01", new).get_brain_mask(source)
    np.testing.assert_array_equal(found.values, mask.ravel() != 0)


# -- trial tables


def test_shuffled_rows(lean, first):
    table = pd.read_csv(lean / trials_file(), sep="\t")
    write_table(lean, trials_file(), table.iloc[[3, 0, 4, 1, 2]])
    assert command(lean, first) == 0
    check(lean, first, lacks=LEAN)


def test_beta_index_decides(lean, first):
    table = pd.read_csv(lean / trials_file(), sep="\t")
    table["beta_index"] = [2, 4, 0, 1, 3]
    write_table(lean, trials_file(), table)
    assert command(lean, first) == 0
    check(lean, first, lacks=LEAN)
    betas = load_subject("01", first).get_betas("ses-02")
    labels = table["label"].tolist()
    assert betas["image_name"].values.tolist() == [labels[row] for row in (2, 3, 0, 4, 1)]


def edited(**columns):
    return lambda table: table.assign(**columns)


TABLES = {
    "repeated beta_index": (edited(beta_index=[0, 1, 1, 3, 4]), ["beta_index", "repeated"]),
    "gap in beta_index": (edited(beta_index=[0, 1, 2, 3, 5]), ["beta_index", "0 … 4", "5"]),
    "from 1": (edited(beta_index=[1, 2, 3, 4, 5]), ["beta_index", "from 1 to 5"]),
    "negative": (edited(beta_index=[-1, 0, 1, 2, 3]), ["beta_index", "-1"]),
    "not whole": (edited(beta_index=[0, 1, 2, 3, 4.5]), ["beta_index", "whole numbers"]),
    "words": (edited(beta_index=list("abcde")), ["beta_index", "whole numbers"]),
    "missing": (edited(beta_index=["0", "1", "n/a", "3", "4"]), ["beta_index", "whole numbers"]),
    "run in words": (edited(run="first"), ["run", "whole numbers"]),
    "no label": (lambda table: table.drop(columns="label"), ["label", "beta_index"]),
    "no session": (lambda table: table.drop(columns="session"), ["session"]),
    "another session": (edited(session="ses-01"), ["ses-01", "ses-02"]),
    "mixed sessions": (edited(session=["ses-02"] * 4 + ["ses-07"]), ["ses-07", "ses-02"]),
    "a row less": (lambda table: table[:-1], ["5 volumes", "4"]),
    "no rows": (lambda table: table[:0], []),
}


@pytest.mark.parametrize("case", TABLES)
def test_wrong_trial_table(lean, whole_lean, first, case):
    change, words = TABLES[case]
    write_table(lean, trials_file(), change(pd.read_csv(lean / trials_file(), sep="\t")))
    report = report_of(lean, first)
    assert list(report.failed) == ["sub-01 ses-02"]
    culprit = betas_file() if case == "a row less" else trials_file()
    teaches(report.failed["sub-01 ses-02"], lean / culprit, *words)
    check(whole_lean, first, lacks={"ses-02", *LEAN})


@pytest.mark.parametrize("data", [b"", b"\n", b"\xff\xfe\x00", b"\x1f\x8b\x08rubbish", HTML])
def test_no_trial_table_at_all(lean, whole_lean, first, data):
    put(lean, trials_file(), data)
    report = report_of(lean, first)
    teaches(report.failed.pop("sub-01 ses-02"), lean / trials_file())
    assert not report.failed
    check(whole_lean, first, lacks={"ses-02", *LEAN})


# -- one bad file fails only what needs it

BAD_SMALL = {
    "roi": (roi_file("FFA1"), "FFA1"),
    "ceiling": (ceiling_file("Noiseceiling12rep"), "Noiseceiling12rep"),
    "map": (map_file("fracridge"), "ses-02 fracridge"),
    "session ceiling": (map_file("session_noise_ceiling"), "ses-02 session_noise_ceiling"),
    "t2w": (anatomy_file("t2w"), "t2w"),
}
BAD_VOLUMES = {
    "web page": HTML,
    "cut": pack(nifti(np.ones(SHAPE, np.float32)))[:-3],
    "other shape": pack(nifti(np.ones((4, 5, 3), np.float32))),
    "other affine": pack(nifti(np.ones(SHAPE, np.float32), affine=moved(0.01))),
    "4-D": pack(nifti(np.ones((*SHAPE, 2), np.float32))),
}


@pytest.mark.parametrize(
    ("which", "damage"),
    [("roi", damage) for damage in BAD_VOLUMES]
    + [("map", damage) for damage in BAD_VOLUMES]
    + [(which, "web page") for which in ("ceiling", "session ceiling", "t2w")]
    + [(which, "other affine") for which in ("ceiling", "session ceiling", "t2w")],
)
def test_damaged_small_file_fails_alone(mirror, whole, new, which, damage):
    path, name = BAD_SMALL[which]
    put(mirror, path, BAD_VOLUMES[damage])
    report = report_of(mirror, new, subjects="01")
    assert len(report.failed) == 1
    teaches(next(iter(report.failed.values())), mirror / path)
    check(whole, new, lacks={name})


@pytest.mark.parametrize("which", BAD_SMALL)
def test_damaged_small_file_is_added_when_mended(mirror, whole, new, which):
    path, _ = BAD_SMALL[which]
    put(mirror, path, HTML)
    assert command(mirror, new, "--subject", "01") == 1
    before, order = shards(new), storage_order(new)
    put(mirror, path, (whole / path).read_bytes())
    assert command(mirror, new, "--subject", "01") == 0
    check(whole, new)
    assert shards(new) == before
    assert storage_order(new) == order


@pytest.mark.parametrize("which", BAD_SMALL)
def test_damaged_small_file_loses_nothing_stored(mirror, whole, kept, which):
    path, _ = BAD_SMALL[which]
    put(mirror, path, HTML)
    assert command(mirror, kept) == 1
    check(whole, kept)


@pytest.mark.parametrize(
    ("source", "damage"),
    [
        ("anatomical", "web page"),
        ("anatomical", "cut"),
        ("anatomical", "other shape"),
        ("rsquare", "other shape"),
        ("rsquare", "other affine"),
        ("rsquare", "4-D"),
    ],
)
def test_damaged_mask_fails_its_subject(mirror, whole, new, kept, source, damage):
    path = mask_file(source)
    put(mirror, path, BAD_VOLUMES[damage])
    report = report_of(mirror, new)
    (error,) = report.failed.values()
    teaches(error, mirror / path)
    check(whole, new, subject="sub-03", lacks=BARE)
    assert command(mirror, kept) == 1
    check(whole, kept)


def test_mask_that_claims_to_be_huge(mirror, whole, new):
    path = mask_file("anatomical")
    header = with_header(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])
    put(mirror, path, header((whole / path).read_bytes()))
    report = report_of(mirror, new)
    (error,) = report.failed.values()
    teaches(error, mirror / path)
    check(whole, new, subject="sub-03", lacks=BARE)


@pytest.mark.parametrize("mm", [0.0005, -0.0009])
def test_small_differences_of_affines_are_fine(mirror, whole, new, mm):
    others = [path for path, _ in BAD_SMALL.values()]
    for path in [mask_file("rsquare"), betas_file(), *others]:
        values = nib.load(whole / path)
        put(mirror, path, pack(nifti(np.asanyarray(values.dataobj), affine=moved(mm))))
    assert command(mirror, new) == 0
    check(whole, new)


BAD_SURFACES = {
    "other vertex count": ("func.gii", gifti(np.ones(11, bool)), ["11 vertices", "10 vertices"]),
    "gii is a web page": ("func.gii", HTML, ["GIfTI"]),
    "gii is empty": ("func.gii", b"", ["GIfTI"]),
    "label count": ("label", label_text([1, 2, 3], count=7), ["3 vertices", "7 vertices"]),
    "label in words": ("label", label_text(["one"]), ["label"]),
    "label is empty": ("label", b"", ["label"]),
}


@pytest.mark.parametrize("case", BAD_SURFACES)
def test_damaged_surface_fails_alone(mirror, whole, new, case):
    form, data, words = BAD_SURFACES[case]
    path = surface_file("FFA2", "L", form)
    put(mirror, path, data)
    report = report_of(mirror, new, subjects="01")
    assert len(report.failed) == 1
    teaches(next(iter(report.failed.values())), mirror / path, *words)
    check(whole, new, lacks={f"FFA2 L {form}"})


def test_region_on_the_surface_only(mirror, whole, new):
    remove(mirror, roi_file("FFA1"), sidecar_file(roi_file("FFA1")))
    assert command(mirror, new, "--subject", "01") == 0
    check(whole, new, lacks={"FFA1"})
    data = load_subject("01", new).get_roi_data("FFA1", "func.gii")["FFA1"]["gii"]
    for hemi in "LR":
        image = nib.load(whole / surface_file("FFA1", hemi, "func.gii"))
        same(data[f"hemi-{hemi}"]["func.gii"], image.darrays[0].data != 0)


def test_damaged_surface_loses_nothing_stored(mirror, whole, kept):
    put(mirror, surface_file("FFA2", "L", "label"), label_text([1, 2, 3], count=7))
    assert command(mirror, kept) == 1
    check(whole, kept)


@pytest.mark.parametrize(
    ("path", "name", "data"),
    [
        (betas_file(), "ses-02", b"{"),
        (betas_file(), "ses-02", b""),
        (betas_file(), "ses-02", b"[1, 2]"),
        (betas_file(), "ses-02", b"\xff\xfe"),
        (trials_file(), "ses-02", HTML),
        (roi_file("FFA1"), "FFA1", b"{"),
        (ceiling_file("Noiseceiling4rep"), "Noiseceiling4rep", b"[]"),
    ],
)
def test_damaged_sidecar(mirror, whole, new, path, name, data):
    put(mirror, sidecar_file(path), data)
    report = report_of(mirror, new, subjects="01")
    assert len(report.failed) == 1
    teaches(next(iter(report.failed.values())), mirror / sidecar_file(path), "JSON")
    check(whole, new, lacks={name})


@pytest.mark.parametrize(
    ("path", "name"),
    [(map_file("r2"), "ses-02 r2"), (anatomy_file("t1w"), "t1w")],
    ids=["map", "t1w"],
)
def test_damaged_sidecar_of_a_map_takes_no_other_map(mirror, whole, new, path, name):
    put(mirror, sidecar_file(path), b"{")
    report = report_of(mirror, new, subjects="01")
    assert len(report.failed) == 1
    teaches(next(iter(report.failed.values())), mirror / sidecar_file(path), "JSON")
    check(whole, new, lacks={name})


DANGLING = {
    "betas": (betas_file(), {"ses-02"}),
    "trials": (trials_file(), {"ses-02"}),
    "betas sidecar": (sidecar_file(betas_file()), {"ses-02"}),
    "roi": (roi_file("FFA1"), {"FFA1"}),
    "ceiling": (ceiling_file("Noiseceiling4rep"), {"Noiseceiling4rep"}),
    "surface": (surface_file("FFA2", "R", "func.gii"), {"FFA2 R func.gii"}),
    "map": (map_file("r2"), {"ses-02 r2"}),
    "t2w": (anatomy_file("t2w"), {"t2w"}),
    "metadata": (METADATA, set()),
}


@pytest.mark.parametrize("which", DANGLING)
def test_dangling_link(mirror, whole, new, capsys, which):
    path, lacks = DANGLING[which]
    (mirror / path).unlink()
    (mirror / path).symlink_to(mirror / "gone")
    assert command(mirror, new, "--subject", "01") == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    names_and_mends(line, mirror / path, "dangling link")
    check(whole, new, lacks=lacks)
    put(mirror, path, (whole / path).read_bytes())
    assert command(mirror, new, "--subject", "01") == 0
    check(whole, new)


@pytest.mark.parametrize("source", ["anatomical", "rsquare"])
def test_dangling_mask(mirror, whole, new, source):
    (mirror / mask_file(source)).unlink()
    (mirror / mask_file(source)).symlink_to(mirror / "gone")
    report = report_of(mirror, new)
    (error,) = report.failed.values()
    teaches(error, mirror / mask_file(source), "dangling link")
    check(whole, new, subject="sub-03", lacks=BARE)


def test_linked_files_are_files(mirror, whole, new, tmp_path):
    elsewhere = tmp_path / "annex"
    for path in [path for path in mirror.rglob("*") if path.is_file()]:
        target = elsewhere / path.relative_to(mirror)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        path.symlink_to(os.path.relpath(target, path.parent))
    assert command(mirror, new) == 0
    check(whole, new)


METADATA_DAMAGES = {
    "duplicate": ("image_name,dataset\na.jpg,LAION\nb.jpg,LAION\na.jpg,OOD\n", ["a.jpg", "once"]),
    "no image_name": ("name,dataset\na.jpg,LAION\n", ["image_name", "dataset"]),
    "empty": ("", []),
    "web page": (HTML, ["image_name"]),
}


@pytest.mark.parametrize("case", METADATA_DAMAGES)
def test_damaged_stimulus_metadata(mirror, whole, new, kept, case):
    data, words = METADATA_DAMAGES[case]
    put(mirror, METADATA, data)
    report = report_of(mirror, new)
    (error,) = report.failed.values()
    teaches(error, mirror / METADATA, *words)
    check(whole, new)
    subject = load_subject("01", new)
    assert "stim_idx" not in subject.dataset.coords
    with pytest.raises(StimuliNotDownloadedError):
        subject.get_stimulus_metadata()
    assert command(mirror, kept) == 1
    stored = load_subject("01", kept)
    expected = pd.read_csv(whole / METADATA)
    pd.testing.assert_frame_equal(stored.get_stimulus_metadata(), expected, check_dtype=False)
    rows = [expected["image_name"].tolist().index(name) for name in stored.metadata["label"]]
    assert stored.metadata["stim_idx"].tolist() == rows


def test_what_is_not_ours_is_ignored(mirror, whole, kept, new):
    """Sessions held out, downloads under way, models, figures, finer grids."""
    source = mirror / GLM / "sub-01" / "ses-01"
    for ses in ("ses-31", "ses-34"):
        shutil.copytree(source, mirror / GLM / "sub-01" / ses)
        for path in (mirror / GLM / "sub-01" / ses).rglob("*.*"):
            path.rename(path.with_name(path.name.replace("ses-01", ses)))
    extra = [
        betas_file("sub-03", "ses-05") + ".part",
        betas_file() + ".part",
        roi_file("EBA").replace("EBA", "VWFA1") + ".part",
        ceiling_file("Noiseceiling7rep") + ".part",
        func_file("desc-GLMsingle_model.h5"),
        f"{GLM}/sub-01/figures/report.svg",
        f"{GLM}/sub-01/summary.html",
        roi_file("EBA").replace("1pt8", "1pt5"),
        roi_file("EBA").replace("EBA", "V1d").replace("1pt8", "1pt5"),
        "derivatives/rois/sub-01/body/notes.txt",
        "derivatives/rois/sub-09/body/readme.txt",
        anatomy_file("t1w").replace("T1w.nii", "FLAIR.nii"),
        "sub-01/anything.nii.gz",
        ".git/config",
    ]
    for path in extra:
        put(mirror, path, b"not ours")
    report = report_of(mirror, new)
    assert not report.failed
    lacks = ("sub-03: no ", "no stimulus ")
    named = [line for line in report.missing if not line.startswith(lacks)]
    assert [line[:27] for line in named] == ["sub-03 ses-05 lacks its bet"]  # on its way
    check(whole, new)
    assert contents(new) == contents(kept)  # what the store holds depends on the rest alone


# -- partial mirrors


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
LACKING_MAPS = {f"{ses} {name}" for ses, names in MAPS_OF.items() for name in names}
# What is removed, what the store then lacks, what the warning must name.
PARTIAL = {
    "a session": ([f"{GLM}/sub-01/ses-02/func/*"], {"ses-02"}, []),
    "betas": ([betas_file()], {"ses-02"}, ["sub-01 ses-02 lacks its betas"]),
    "trial table": ([trials_file()], {"ses-02"}, ["sub-01 ses-02 lacks its trial table"]),
    "ROIs": (
        ["derivatives/rois/sub-01/*/*"],
        {*ROIS, "surfaces"},
        ["sub-01: no ROIs"],
    ),
    "one ROI": (
        ["derivatives/rois/sub-01/body/*"],
        {"EBA"},
        [],
    ),
    "surfaces": (NO_SURFACES, {"surfaces"}, []),
    "ceilings": (
        [f"{GLM}/sub-01/*rep_*"],
        set(CEILINGS),
        ["sub-01: no cross-session noise ceilings"],
    ),
    "one ceiling": ([f"{GLM}/sub-01/*Allrep*"], {"NoiseceilingAllrep"}, []),
    "maps": (ALL_MAPS, LACKING_MAPS, []),
    "one map": ([map_file("r2")], {"ses-02 r2"}, []),
    "anatomy but the mask": (
        [anatomy_file("t1w"), anatomy_file("t2w"), anatomy_file("brain_mask_full")],
        {"t1w", "t2w", "brain_mask_full"},
        ["sub-01: no T1w"],
    ),
    "stimuli": (["stimuli/*"], set(), ["no stimulus metadata", METADATA]),
}


@pytest.mark.parametrize("case", PARTIAL)
def test_partial_mirror_then_the_rest(mirror, whole, new, kept, capsys, case):
    patterns, lacks, warned = PARTIAL[case]
    remove(mirror, *patterns)
    assert command(mirror, new, "--subject", "01") == 0
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("warning: ") for line in lines)
    for words in warned:
        assert words in "\n".join(lines)
    never_there = [line for line in lines if re.search("no stimulus (?!metadata)", line)]
    assert bool(warned) == (len(lines) > len(never_there))
    check(whole, new, lacks=lacks)
    before, order = shards(new), storage_order(new)
    assert command(whole, new, "--subject", "01") == 0
    after = shards(new)
    assert {name: after[name] for name in before} == before
    assert storage_order(new) == order
    check(whole, new)
    if case not in ("ROIs", "one ROI"):  # those had a say in the storage order
        # The same as at once: neither the order of work nor the mirror's place is kept.
        assert contents(new, "sub-01/**/*") == contents(kept, "sub-01/**/*")


def test_sidecars_appear(mirror, whole, new):
    remove(mirror, "derivatives/**/*.json")
    assert command(mirror, new) == 0
    check(whole, new)
    before, order = contents(new, "sub-*/ses-*/betas/c/**/*"), storage_order(new)
    assert command(whole, new) == 0
    assert contents(new, "sub-*/ses-*/betas/c/**/*") == before
    assert storage_order(new) == order
    check(whole, new)
    array = zarr.open_array(f"{new}/sub-01/ses-02/betas", mode="r")
    expected = json.loads((whole / sidecar_file(betas_file())).read_text())
    assert array.attrs["sidecar"] == expected


@pytest.mark.parametrize("source", ["anatomical", "rsquare"])
def test_one_mask_only_then_the_other(mirror, whole, new, capsys, source):
    other = {"anatomical": "rsquare", "rsquare": "anatomical"}[source]
    remove(mirror, mask_file(other))
    if source == "rsquare":
        remove(mirror, "derivatives/anatomical/sub-01/*/anat/*")
    assert command(mirror, new) == 0
    lacks = {other} | (set(IMAGES) if source == "rsquare" else set())
    check(whole, new, lacks=lacks)
    words = {"rsquare": "R2mean", "anatomical": "anatomical brain mask"}[other]
    assert words in capsys.readouterr().err
    with pytest.raises(NotConvertedError) as caught:
        load_subject("01", new).get_betas(mask_source=other)
    names_and_mends(str(caught.value), f"mask_source={source!r}", "laion-zarr convert", other)
    before = shards(new)
    assert command(whole, new) == 1  # voxels not yet stored
    line = capsys.readouterr().err
    names_and_mends(line, "--overwrite", other)
    assert shards(new) == before
    check(whole, new, lacks=lacks)
    assert command(whole, new, "--mask", source) == 0
    assert shards(new) == before
    assert command(whole, new, "--overwrite") == 0
    check(whole, new)


def test_no_anatomy_at_all_default_mask_says_how(mirror, new):
    shutil.rmtree(mirror / "derivatives/anatomical")
    assert command(mirror, new) == 0
    subject = load_subject("01", new)
    for ask in (subject.get_betas, subject.get_n_voxels, subject.get_voxel_coordinates):
        with pytest.raises(NotConvertedError) as caught:
            ask()
        names_and_mends(str(caught.value), "mask_source='rsquare'", "derivatives/anatomical")
    same(
        subject.get_betas("01", mask_source="rsquare").values,
        answer_betas(mirror, "sub-01", "ses-01", "rsquare"),
    )


def test_neither_mask(mirror, whole, new, capsys):
    remove(mirror, mask_file("anatomical"), mask_file("rsquare"))
    assert command(mirror, new) == 1
    names_and_mends(capsys.readouterr().err, mask_file("anatomical"), mask_file("rsquare"))
    with pytest.raises(DataNotDownloadedError):
        convert(mirror, new, progress=False)
    with pytest.raises(NotConvertedError):
        load_subject("01", new)
    check(whole, new, subject="sub-03", lacks=BARE)
    assert command(whole, new) == 0
    check(whole, new)


@pytest.mark.parametrize("source", ["anatomical", "rsquare"])
def test_the_mask_asked_for_is_missing(lean, new, capsys, source):
    other = {"anatomical": "rsquare", "rsquare": "anatomical"}[source]
    remove(lean, mask_file(source))
    assert command(lean, new, "--mask", source) == 1
    stderr = capsys.readouterr().err
    names_and_mends(stderr, mask_file(source))
    assert mask_file(other) not in stderr  # downloading that would not help


def test_no_stimuli(mirror, whole, new):
    remove(mirror, "stimuli/*")
    convert(mirror, new, progress=False)
    subject = load_subject("01", new)
    assert not subject.has_stimuli()
    for name in ("stim_idx", "dataset"):
        assert name not in subject.dataset.coords
    labels = subject.metadata["label"]
    kinds = [name.partition("_")[0] for name in labels]
    assert subject.metadata["unique_or_shared"].tolist() == kinds
    shared = subject.get_betas("ses-01", stimuli="shared")
    rows = [kind == "shared" for kind in kinds[:6]]
    same(shared.values, answer_betas(whole, "sub-01", "ses-01", "anatomical")[rows])
    for ask in (subject.get_stimulus_metadata, subject.get_n_stimuli):
        with pytest.raises(StimuliNotDownloadedError) as caught:
            ask()
        names_and_mends(str(caught.value), METADATA, "laion-zarr convert")


ASKED = {
    "a subject": ([], ["--subject", "05"], "sub-05"),
    "a subject beside one that is there": ([], ["--subject", "01", "05"], "sub-05"),
    "a session": ([], ["--subject", "01", "--ses", "07"], "ses-07"),
    "a session beside one that is there": ([], ["--ses", "01", "07"], "ses-07"),
    "a session held out": ([], ["--subject", "01", "--ses", "31"], "ses-31"),
    "a session without betas": ([betas_file()], ["--subject", "01", "--ses", "02"], "betas"),
    "a session without table": ([trials_file()], ["--ses", "02"], "trial table"),
    "betas": ([betas_file(ses="ses-01"), betas_file()], ["--parts", "betas"], "sub-01"),
    "anatomy": ([mask_file("anatomical")], ["--parts", "anatomy"], "derivatives/anatomical"),
    "surfaces": ([], ["--parts", "surfaces"], "derivatives/rois"),
    "metadata": ([], ["--parts", "metadata"], METADATA),
    "one of two parts": ([], ["--parts", "betas", "metadata"], METADATA),
}


@pytest.mark.parametrize("case", ASKED)
def test_asked_for_and_missing_is_a_failure(lean, whole, new, capsys, case):
    patterns, options, words = ASKED[case]
    remove(lean, *patterns)
    assert command(lean, new, *options) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    names_and_mends("\n".join(errors), words)
    if case.endswith("one that is there"):
        subject = load_subject("01", new)
        there = ["ses-01", "ses-02"][: 1 if "--ses" in options else 2]
        check_sessions(whole, subject, there, ["anatomical", "rsquare"])


def test_asked_for_session_of_one_of_two_subjects(whole, kept, capsys):
    assert command(whole, kept, "--ses", "02") == 1
    names_and_mends(capsys.readouterr().err, "error: sub-03 ses-02")
    check(whole, kept)


def test_asked_for_and_stored_needs_no_mirror(mirror, whole, kept):
    remove(mirror, betas_file(), trials_file())
    assert command(mirror, kept, "--subject", "01", "--ses", "02") == 0
    check(whole, kept)


VANISHED = {
    "betas": [f"{GLM}/sub-01/ses-*/func/*SingletrialBetas*"],
    "a session": [f"{GLM}/sub-01/ses-02/func/*"],
    "masks": [mask_file("anatomical"), mask_file("rsquare")],
    "ROIs": ["derivatives/rois/sub-01/*/*"],
    "one ROI": ["derivatives/rois/sub-01/body/*"],
    "ceilings": [f"{GLM}/sub-01/*rep_*"],
    "maps": ALL_MAPS,
    "one map": [map_file("r2")],
    "anatomy": ["derivatives/anatomical/sub-01/*/anat/*"],
    "sidecars": ["derivatives/**/*.json"],
    "stimuli": ["stimuli/*"],
    "the subject": ["derivatives/*/sub-01/**/*"],
}


@pytest.mark.parametrize("case", VANISHED)
def test_what_vanishes_from_the_mirror_stays_in_the_store(mirror, whole, kept, case):
    before = contents(kept)
    remove(mirror, *VANISHED[case])
    assert command(mirror, kept) == 0
    check(whole, kept)
    assert contents(kept) == before


NEW_BESIDE_VANISHED = {
    # stored: all but `late`; then `gone` vanishes and `late` appears
    "map": (map_file("fracridge"), [map_file("r2"), map_file("session_noise_ceiling")]),
    "t2w": (anatomy_file("t2w"), [anatomy_file("t1w"), anatomy_file("brain_mask_full")]),
    "roi": (roi_file("FFA2"), [roi_file("EBA"), roi_file("FFA1")]),
    "ceiling": (ceiling_file("Noiseceiling4rep"), [ceiling_file("NoiseceilingAllrep")]),
    "surface": (
        surface_file("FFA2", "L", "func.gii"),
        ["derivatives/rois/sub-01/*/*EBA*.label", "derivatives/rois/sub-01/*/*EBA*.func.gii"],
    ),
    "roi and masks": (roi_file("FFA2"), [mask_file("anatomical"), mask_file("rsquare")]),
}


@pytest.mark.parametrize("case", NEW_BESIDE_VANISHED)
def test_new_files_do_not_drive_out_vanished_ones(mirror, whole, new, case):
    """A user who deletes what is converted and downloads the next files."""
    late, gone = NEW_BESIDE_VANISHED[case]
    remove(mirror, late)
    assert command(mirror, new, "--subject", "01") == 0
    before = shards(new)
    put(mirror, late, (whole / late).read_bytes())
    remove(mirror, *gone)
    assert command(mirror, new, "--subject", "01") == 0
    check(whole, new)
    assert shards(new) == before


# -- where it goes


def test_target_below_a_file(whole, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(StoreError) as caught:
        convert(whole, file / "store.zarr", progress=False)
    names_and_mends(str(caught.value), file / "store.zarr", "--store")
    assert command(whole, file / "store.zarr") == 1
    assert str(file / "store.zarr") in capsys.readouterr().err
    assert file.read_text() == "mine"


def test_target_is_a_file(whole, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(StoreError) as caught:
        convert(whole, file, progress=False)
    names_and_mends(str(caught.value), file, "--store")
    assert file.read_text() == "mine"
    with pytest.raises(LaionZarrError) as caught:
        load_subject("01", file)
    names_and_mends(str(caught.value), file)


FOREIGN = {
    "files": {"thesis.tex": "mine", "data/run.csv": "1"},
    "hidden file": {".keep": ""},
    "another zarr store": {
        "zarr.json": '{"zarr_format": 3, "node_type": "group", "attributes": {}}',
        "x/zarr.json": "{}",
    },
    "a mirror": {"derivatives/x": "1", "manifest.json": "{}"},
    "a web app": {"zarr.json": "not json", "manifest.json": '{"name": "app"}'},
    "folders like ours": {"sub-01/notes.txt": "mine", "stimuli/a.jpg": "mine"},
}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_folder_is_refused_and_untouched(whole, tmp_path, case, overwrite):
    folder = tmp_path / "folder"
    for name, text in FOREIGN[case].items():
        put(folder, name, text)
    before = tree(folder)
    with pytest.raises(StoreError) as caught:
        convert(whole, folder, overwrite=overwrite, progress=False)
    names_and_mends(str(caught.value), folder)
    assert command(whole, folder) == 1
    assert tree(folder) == before


def test_empty_folder_is_taken(whole, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    assert command(whole, folder) == 0
    check(whole, folder)


def test_dry_run_touches_nothing(whole, new, capsys):
    assert command(whole, new, "--dry-run") == 0
    assert not new.exists()
    assert "sub-01 ses-02: 5 trials" in capsys.readouterr().out


@pytest.mark.parametrize("make", [True, False], ids=["empty", "absent"])
def test_no_data(tmp_path, new, capsys, make):
    root = tmp_path / "data"
    if make:
        root.mkdir()
    with pytest.raises(DataNotDownloadedError) as caught:
        convert(root, new, progress=False)
    names_and_mends(str(caught.value), root, "--source", "derivatives/")
    assert command(root, new) == 1
    assert str(root) in capsys.readouterr().err
    assert not new.exists()


def test_no_data_does_not_touch_a_store(tmp_path, kept):
    before = tree(kept)
    assert command(tmp_path / "nowhere", kept) == 1
    assert tree(kept) == before


# -- the store's own files


def seal(manifest):
    """A manifest as its writer would have written it, with the checksum at its end."""
    body = {key: value for key, value in manifest.items() if key != "crc32c"}
    text = json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False)
    return f'{text[:-2]},\n "crc32c": {google_crc32c.value(text.encode())}\n}}\n'


def of_the_future(path):
    content = json.loads(path.read_text())
    if path.name == "zarr.json":
        content["attributes"]["laion_zarr"]["schema_version"] = 2
        path.write_text(json.dumps(content, indent=2))
    else:
        assert seal(content) == path.read_text()  # what the writer does, known here
        path.write_text(seal(content | {"schema_version": 2}))


FUTURE = {
    "root": (["zarr.json"], True),
    "root manifest": (["manifest.json"], False),
    "subject": (["sub-01/manifest.json"], True),
    "all": (
        ["zarr.json", "manifest.json", "sub-01/manifest.json", "sub-03/manifest.json"],
        True,
    ),
}


@pytest.mark.parametrize("case", FUTURE)
def test_store_of_a_future_version(mirror, whole, kept, capsys, case):
    files, read_too = FUTURE[case]
    for name in files:
        of_the_future(kept / name)
    before = tree(kept)
    if read_too:
        with pytest.raises(StoreError) as caught:
            load_subject("01", kept)
        names_and_mends(str(caught.value), "version 2", "version 1", "pip install", kept)
    remove(mirror, betas_file())  # there is something to do, and nothing
    for root in (whole, mirror):
        with pytest.raises(StoreError) as caught:
            convert(root, kept, progress=False)
        names_and_mends(str(caught.value), "version 2", "version 1", kept)
    assert command(whole, kept) == 1
    assert "version 2" in capsys.readouterr().err
    assert tree(kept) == before


def test_store_of_a_future_version_is_not_overwritten(whole, kept):
    for name in FUTURE["all"][0]:
        of_the_future(kept / name)
    before = tree(kept)
    with pytest.raises(StoreError, match="version 2"):
        convert(whole, kept, overwrite=True, progress=False)
    assert tree(kept) == before


CUTS = [0, 1, 1000, -40, -2]


@pytest.mark.parametrize("cut", CUTS)
def test_cut_manifest_of_a_subject(whole, kept, cut):
    path = kept / "sub-01" / "manifest.json"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(StoreError) as caught:
        load_subject("01", kept)
    names_and_mends(str(caught.value), path, "laion-zarr convert --overwrite")
    check(whole, kept, subject="sub-03", lacks=BARE)
    before = contents(kept, "sub-*/**/*")
    with pytest.raises(StoreError) as caught:
        convert(whole, kept, progress=False)
    names_and_mends(str(caught.value), path, "--overwrite")
    assert contents(kept, "sub-*/**/*") == before
    assert command(whole, kept, "--overwrite", "--subject", "01") == 0
    check(whole, kept)
    check(whole, kept, subject="sub-03", lacks=BARE)


def test_cut_manifest_stops_its_subject_only(mirror, whole, new):
    remove(mirror, f"{GLM}/sub-03/**/*")
    assert command(mirror, new) == 0
    path = new / "sub-01" / "manifest.json"
    path.write_bytes(path.read_bytes()[:100])
    assert command(whole, new) == 1
    check(whole, new, subject="sub-03", lacks=BARE)


def test_cut_manifest_is_not_overwritten_where_it_would_lose(mirror, kept, capsys):
    path = kept / "sub-01" / "manifest.json"
    path.write_bytes(path.read_bytes()[:100])
    remove(mirror, f"{GLM}/sub-01/ses-02/func/*")
    before = contents(kept, "sub-01/**/*")
    assert command(mirror, kept, "--overwrite") == 1
    names_and_mends(capsys.readouterr().err, "ses-02")
    assert contents(kept, "sub-01/**/*") == before


def test_cut_manifest_of_the_stimuli(whole, kept):
    path = kept / "stimuli" / "manifest.json"
    path.write_bytes(path.read_bytes()[:50])
    check(whole, kept)  # trials have their columns of it
    with pytest.raises(StoreError) as caught:
        load_subject("01", kept).get_stimulus_metadata()
    names_and_mends(str(caught.value), path, "--overwrite")
    with pytest.raises(StoreError) as caught:
        convert(whole, kept, progress=False)
    names_and_mends(str(caught.value), path, "--overwrite")
    assert command(whole, kept, "--overwrite") == 0
    found = load_subject("01", kept).get_stimulus_metadata()
    pd.testing.assert_frame_equal(found, pd.read_csv(whole / METADATA), check_dtype=False)


@pytest.mark.parametrize("name", ["manifest.json", "zarr.json"])
@pytest.mark.parametrize("cut", [0, 30])
def test_cut_root_is_mended_by_the_next_run(whole, whole_store, kept, name, cut):
    (kept / name).write_bytes((kept / name).read_bytes()[:cut])
    if name == "zarr.json":
        with pytest.raises(StoreError) as caught:
            load_subject("01", kept)
        names_and_mends(str(caught.value), kept / name)
    assert command(whole, kept) == 0
    check(whole, kept)
    assert contents(kept) == contents(whole_store)


# -- masks and --overwrite


@pytest.mark.parametrize("source", ["anatomical", "rsquare"])
def test_store_of_one_mask(whole, whole_store, new, capsys, source):
    other = {"anatomical": "rsquare", "rsquare": "anatomical"}[source]
    assert command(whole, new, "--subject", "01", "--mask", source) == 0
    check(whole, new, lacks={other})
    subject = load_subject("01", new)
    for ask in (
        lambda: subject.get_betas(mask_source=other),
        lambda: subject.sel(mask_source=other),
        lambda: subject.get_brain_mask(other),
        lambda: subject.get_roi_mask("EBA", mask_source=other),
    ):
        with pytest.raises(NotConvertedError) as caught:
            ask()
        names_and_mends(str(caught.value), other, "laion-zarr convert", f"{source!r}")
    before = shards(new)
    with pytest.raises(LaionZarrError) as caught:
        convert(whole, new, mask="both", subjects="01", progress=False)
    assert isinstance(caught.value, NotConvertedError)
    names_and_mends(str(caught.value), "--overwrite", "sub-01", other)
    assert command(whole, new, "--subject", "01") == 1
    assert shards(new) == before
    check(whole, new, lacks={other})
    capsys.readouterr()
    assert (
        command(whole, new, "--subject", "01", "--mask", source) == 0
    )  # asked as before: nothing to do
    assert shards(new) == before
    assert command(whole, new, "--subject", "01", "--mask", "both", "--overwrite") == 0
    check(whole, new)
    assert contents(new, "sub-01/**/*") == contents(whole_store, "sub-01/**/*")


def grow(root):
    """A brain mask with one more voxel: another voxel axis."""
    mask = read_nifti(root / mask_file("anatomical"))
    free = np.flatnonzero(~inside(root, "union"))
    mask[np.unravel_index(free[0], SHAPE)] = 1
    put(root, mask_file("anatomical"), pack(nifti(mask)))


def test_overwrite_without_a_session_keeps_it(mirror, whole, kept):
    remove(mirror, f"{GLM}/sub-01/ses-02/func/*")
    command(mirror, kept, "--overwrite")
    check(whole, kept)


@pytest.mark.parametrize("gone", [f"{GLM}/sub-01/ses-02/func/*", betas_file(), trials_file()])
def test_overwrite_with_other_voxels_needs_all_sessions(mirror, whole, kept, capsys, gone):
    grow(mirror)
    remove(mirror, gone)
    before = contents(kept, "sub-01/**/*")
    assert command(mirror, kept, "--overwrite") == 1
    names_and_mends(capsys.readouterr().err, "ses-02", "--overwrite")
    check(whole, kept)
    assert contents(kept, "sub-01/**/*") == before


@pytest.mark.parametrize(
    "gone", [roi_file("EBA"), ceiling_file("Noiseceiling4rep"), mask_file("rsquare")]
)
def test_overwrite_without_a_file_of_the_voxels_is_refused(mirror, whole, kept, capsys, gone):
    remove(mirror, gone)
    before = contents(kept, "sub-01/**/*")
    assert command(mirror, kept, "--overwrite") == 1
    names_and_mends(capsys.readouterr().err, gone)
    check(whole, kept)
    assert contents(kept, "sub-01/**/*") == before


@pytest.mark.parametrize(
    "gone",
    [map_file("r2"), anatomy_file("t2w"), surface_file("EBA", "L", "func.gii"), METADATA],
)
def test_overwrite_without_another_file_loses_nothing(mirror, whole, kept, gone):
    remove(mirror, gone)
    command(mirror, kept, "--overwrite")
    check(whole, kept)
    assert "stim_idx" in load_subject("01", kept).dataset.coords


@pytest.mark.parametrize("other_voxels", [False, True])
@pytest.mark.parametrize("damage", ["no trailer", "3-D"])
def test_overwrite_with_a_damaged_session(mirror, whole, kept, damage, other_voxels):
    before = contents(kept, "sub-*/**/*")
    if other_voxels:
        grow(mirror)
    put(mirror, betas_file(), DAMAGES[damage]((whole / betas_file()).read_bytes()))
    with pytest.raises(LaionZarrError) as caught:
        convert(mirror, kept, overwrite=True, progress=False)
    names_and_mends(str(caught.value), mirror / betas_file())
    check(whole, kept)
    check(whole, kept, subject="sub-03", lacks=BARE)
    assert contents(kept, "sub-*/**/*") == before
    put(mirror, betas_file(), (whole / betas_file()).read_bytes())
    assert command(mirror, kept, "--overwrite") == 0
    check(mirror, kept)


@pytest.mark.parametrize(
    "path", [roi_file("EBA"), ceiling_file("Noiseceiling4rep"), mask_file("rsquare")]
)
def test_overwrite_with_a_damaged_file_of_the_voxels(mirror, whole, kept, path):
    put(mirror, path, HTML)
    with pytest.raises(LaionZarrError) as caught:
        convert(mirror, kept, overwrite=True, progress=False)
    assert str(mirror / path) in str(caught.value)
    check(whole, kept)


@pytest.mark.parametrize(
    "path",
    [map_file("r2"), anatomy_file("t2w"), surface_file("EBA", "L", "func.gii"), METADATA],
)
def test_overwrite_with_another_damaged_file(mirror, whole, kept, path):
    put(mirror, path, HTML)
    with pytest.raises(SourceError) as caught:
        convert(mirror, kept, overwrite=True, progress=False)
    assert str(mirror / path) in str(caught.value)
    check(whole, kept)


# -- wrong questions

NOT_SUBJECTS = ["", "sub-", "sub_01", 1, None, "ses-", "sub-01/..", b"sub-01"]


@pytest.mark.parametrize("given", NOT_SUBJECTS)
def test_malformed_subject(whole, whole_store, new, given):
    with pytest.raises(SubjectNotFoundError) as caught:
        load_subject(given, whole_store)
    for word in (repr(given), "'sub-01'", "sub-07"):
        assert word in str(caught.value)
    with pytest.raises(ValueError, match="no subject id"):
        xr.open_dataset(whole_store, engine="laion_zarr", group="" if given is None else given)
    if given is not None:
        with pytest.raises(SubjectNotFoundError):
            convert(whole, new, subjects=given, progress=False)
        with pytest.raises(SubjectNotFoundError):
            convert(whole, new, subjects=["sub-01", given], progress=False)
        assert not new.exists()


@pytest.mark.parametrize("given", ["", "ses-", "ses_01", "sub-01", 1, 1.5, "ses-01/.."])
def test_malformed_session(whole, sub, new, given):
    for ask in (
        sub.get_betas,
        sub.get_trial_info,
        lambda ses: sub.sel(session=ses),
        lambda ses: sub.get_noise_ceiling(session=ses),
        lambda ses: sub.get_betas(["ses-01", ses]),
        lambda ses: convert(whole, new, sessions=ses, progress=False),
    ):
        with pytest.raises(ValueError, match="no session id") as caught:
            ask(given)
        assert repr(given) in str(caught.value)
        assert "'ses-01'" in str(caught.value)
    assert not new.exists()


@pytest.mark.parametrize("given", ["", "sub-", "sub_01"])
def test_malformed_subject_on_the_command_line(whole, new, capsys, given):
    assert command(whole, new, "--subject", given) == 1
    assert "sub-01" in capsys.readouterr().err
    assert not new.exists()


def not_converted(ask, *words):
    with pytest.raises(NotConvertedError) as caught:
        ask()
    names_and_mends(str(caught.value), "laion-zarr", *words)


def test_unknown_subject(whole_store):
    not_converted(lambda: load_subject("05", whole_store), "sub-05", whole_store)
    not_converted(
        lambda: xr.open_dataset(whole_store, engine="laion_zarr", group="sub-05"), "sub-05"
    )


@pytest.mark.parametrize(
    "ask",
    [
        lambda sub: sub.get_betas("ses-09"),
        lambda sub: sub.get_betas(["ses-01", "ses-09"]),
        lambda sub: sub.sel(session="09"),
        lambda sub: sub.get_trial_info("ses-09"),
        lambda sub: sub.get_noise_ceiling(session="ses-09"),
        lambda sub: sub.get_betas("ses-09", nc_threshold=10),
    ],
)
def test_unknown_session(sub, ask):
    not_converted(lambda: ask(sub), "ses-09", "ses-01, ses-02", "--ses")


def wrong(ask, *words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        ask()
    for word in words:
        assert str(word) in str(caught.value)


@pytest.mark.parametrize("query", ["FFA9", "faces", "", None, 1, ["EBA", "FFA9"], "eba"])
def test_unknown_roi(sub, query):
    for ask in (
        sub.get_roi_mask,
        sub.get_roi_data,
        lambda roi: sub.get_betas(roi=roi),
        lambda roi: sub.sel(roi=roi),
        lambda roi: sub.get_voxel_coordinates(roi=roi),
        lambda roi: sub.get_noise_ceiling(desc="Noiseceiling4rep", roi=roi),
    ):
        if query is not None or ask in (sub.get_roi_mask, sub.get_roi_data):
            wrong(lambda ask=ask: ask(query), *ROIS, "body", "'all'")


def test_unknown_category(sub):
    wrong(lambda: sub.get_available_rois("faces"), "'faces'", "body", "face", "laion")


def test_no_rois(mirror, new):
    remove(mirror, "derivatives/rois/sub-01/*/*")
    convert(mirror, new, progress=False)
    subject = load_subject("01", new)
    assert subject.get_available_rois() == []
    assert subject.get_available_categories() == []
    for ask in (subject.get_roi_mask, subject.get_roi_data, lambda roi: subject.sel(roi=roi)):
        not_converted(lambda ask=ask: ask("EBA"), "derivatives/rois", "convert")


def test_no_surfaces(mirror, new):
    remove(mirror, *NO_SURFACES)
    convert(mirror, new, progress=False)
    subject = load_subject("01", new)
    not_converted(lambda: subject.get_roi_data("EBA", "gii"), "surfaces", "convert")
    found = subject.get_roi_data("EBA", "volume")["EBA"]["volume"]
    expected = (flat(mirror, roi_file("EBA")) != 0)[inside(mirror, "anatomical")]
    same(found.values, expected)


def foreign_mask(sub):
    mask = sub.get_roi_mask("laiongeneral", mask_source="rsquare")
    return mask.copy(data=np.ones(mask.shape, bool))


def number_mask(sub):
    return sub.get_noise_ceiling(desc="Noiseceiling4rep")


WRONG_MASKS = {
    "short": (lambda sub: np.ones(sub.get_n_voxels() - 1, bool), ["shape", "expected"]),
    "long": (lambda sub: np.ones(sub.get_n_voxels() + 1, bool), ["shape", "expected"]),
    "grid": (lambda sub: np.ones(SHAPE, bool), ["(5, 4, 3)", "get_brain_mask"]),
    "empty": (lambda sub: np.ones(0, bool), ["shape", "expected"]),
    "integers": (lambda sub: np.ones(sub.get_n_voxels(), int), ["boolean"]),
    "floats": (lambda sub: np.ones(sub.get_n_voxels()), ["boolean"]),
    "positions": (lambda sub: [0, 1, 2], ["boolean"]),
    "foreign voxels": (foreign_mask, ["mask_source"]),
    "labelled floats": (number_mask, ["boolean"]),
}


@pytest.mark.parametrize("case", WRONG_MASKS)
def test_wrong_mask(sub, case):
    make, words = WRONG_MASKS[case]
    mask = make(sub)
    for ask in (
        lambda: sub.get_betas("ses-01", mask=mask),
        lambda: sub.get_noise_ceiling(session="ses-01", mask=mask),
        lambda: sub.get_voxel_coordinates(mask=mask),
    ):
        wrong(ask, "mask", *words)


def test_roi_and_mask_exclude_each_other(sub):
    mask = np.ones(sub.get_n_voxels(), bool)
    for ask in (
        lambda: sub.get_betas(roi="EBA", mask=mask),
        lambda: sub.get_noise_ceiling(session="ses-01", roi="EBA", mask=mask),
        lambda: sub.get_voxel_coordinates(roi="EBA", mask=mask),
    ):
        wrong(ask, "roi", "mask", "one of them")


@pytest.mark.parametrize("source", ["brain", "", "both", "R2", None, 1])
def test_unknown_mask_source(sub, source):
    for ask in (
        lambda: sub.get_betas(mask_source=source),
        lambda: sub.sel(mask_source=source),
        lambda: sub.get_brain_mask(source),
        lambda: sub.get_n_voxels(source),
        lambda: sub.get_roi_mask("EBA", mask_source=source),
        lambda: sub.get_noise_ceiling(session="ses-01", mask_source=source),
    )[:: 2 if source is None else 1]:
        if source is not None:  # None keeps the union where a method has it
            wrong(ask, "anatomical", "rsquare", repr(source))


def test_unknown_resolution(sub):
    wrong(lambda: sub.get_brain_mask(res="0pt8"), "'1pt8'", "None", "'0pt8'")


@pytest.mark.parametrize("stimuli", ["both", "", "all", "Shared", 1])
def test_unknown_stimuli(sub, stimuli):
    for ask in (
        lambda: sub.get_betas(stimuli=stimuli),
        lambda: sub.sel(stimuli=stimuli),
        lambda: sub.get_n_stimuli(stimuli),
    ):
        wrong(ask, "'shared'", "'unique'", repr(stimuli))


def test_threshold_without_ceilings(mirror, new):
    remove(mirror, f"{GLM}/sub-01/*rep_*", *ALL_MAPS)
    convert(mirror, new, progress=False)
    subject = load_subject("01", new)
    not_converted(lambda: subject.get_betas(nc_threshold=10), "NoiseceilingAllrep", "none")
    not_converted(lambda: subject.get_betas("ses-01", nc_threshold=10), "ses-01")
    not_converted(lambda: subject.sel(nc_threshold=10), "NoiseceilingAllrep")
    not_converted(lambda: subject.get_noise_ceiling(session="ses-01"), "ses-01")
    not_converted(lambda: subject.get_noise_ceiling(desc="NoiseceilingAllrep"), "none")


@pytest.mark.parametrize("ask", ["get_betas", "sel"])
def test_threshold_below_one_warns(sub, whole, ask):
    with pytest.warns(UserWarning, match="percent") as caught:
        found = getattr(sub, ask)(nc_threshold=0.5, mask_source="anatomical")
    assert caught[0].filename == __file__
    ceiling = flat(whole, ceiling_file("NoiseceilingAllrep"))
    expected = np.flatnonzero(inside(whole, "anatomical") & (ceiling >= 0.5))
    assert found["voxel"].values.tolist() == expected.tolist()


@pytest.mark.parametrize("threshold", [0, 1, 10, 100])
def test_other_thresholds_do_not_warn(sub, whole, threshold):
    found = sub.get_betas("ses-02", nc_threshold=threshold)
    ceiling = flat(whole, map_file("session_noise_ceiling"))
    expected = np.flatnonzero(inside(whole, "anatomical") & (ceiling >= threshold))
    assert found["voxel"].values.tolist() == expected.tolist()


def test_no_store_is_set():
    with pytest.raises(DataDirNotSetError) as caught:
        load_subject("sub-01")
    names_and_mends(str(caught.value), "laion-zarr config --data-dir", "LAION_ZARR_STORE")
    with pytest.raises(DataDirNotSetError):
        convert()
    assert main(["convert", "--quiet"]) == 1


def test_store_that_does_not_exist(tmp_path, monkeypatch):
    nowhere = tmp_path / "nowhere.zarr"
    not_converted(lambda: load_subject("01", nowhere), nowhere, "convert")
    not_converted(lambda: load_subject("01", "memory://nowhere.zarr"), "nowhere.zarr")
    monkeypatch.setenv("LAION_ZARR_STORE", str(nowhere))
    not_converted(lambda: load_subject("01"), nowhere)
    assert not nowhere.exists()


@pytest.mark.parametrize("given", ["a folder", "a zarr group"])
def test_store_that_is_none(tmp_path, given):
    folder = tmp_path / "folder"
    folder.mkdir()
    if given == "a zarr group":
        zarr.open_group(folder, mode="w")
    with pytest.raises(LaionZarrError) as caught:
        load_subject("01", folder)
    names_and_mends(str(caught.value), folder, "laion-zarr")


@pytest.mark.parametrize(
    "chunks",
    [
        "auto",
        5,
        (3, 4),
        [1],
        {"time": 3},
        {"voxel": 0},
        {"voxel": -2},
        {"voxel": 2.5},
        {"trial": "many"},
        {"trial": (1, 2)},
        {"trial": None, "x": 1},
    ],
)
def test_wrong_chunks(sub, chunks):
    for ask in (lambda: sub.get_betas(chunks=chunks), lambda: sub.sel(chunks=chunks)):
        wrong(ask, "chunks", "trial", "voxel")


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ({"trial": 10**9}, ["trial", "1000000000", "11 labels", "0 to 10"]),
        ({"trial": [0, 11]}, ["trial", "11"]),
        ({"trial": -1}, ["trial", "-1"]),
        ({"trial": "first"}, ["trial", "first"]),
        ({"trial": [True] * 11}, ["trial", "boolean"]),
        ({"voxel": 10**9}, ["voxel", "1000000000"]),
        ({"voxel": "x"}, ["voxel", "x"]),
        ({"image_name": "nope"}, ["nope", LABELS[0]]),
        ({"image_name": [LABELS[0], "nope"]}, ["nope"]),
        ({"image_name": 3}, ["3"]),
    ],
)
def test_labels_that_are_not_there(sub, selection, words):
    wrong(lambda: sub.sel(**selection), *words)


def test_wrong_values_for_nifti(sub, tmp_path):
    path = tmp_path / "out.nii.gz"
    n = sub.get_n_voxels()
    wrong(lambda: sub.to_nifti(np.zeros(n + 1), path), f"{n}", f"({n + 1},)", "roi=")
    wrong(lambda: sub.to_nifti(np.zeros(n), path, roi="EBA"), "mask_source=")
    wrong(lambda: sub.to_nifti(3.0, path), "shape ()")
    wrong(lambda: sub.to_nifti(np.zeros((2, 2, n)), path), "(trial, voxel)")
    labelled = sub.get_noise_ceiling(session="ses-01")
    twice = xr.concat([labelled, labelled], "voxel")
    wrong(lambda: sub.to_nifti(twice, path), "twice")
    beyond = labelled.assign_coords(voxel=labelled["voxel"] + 60)
    wrong(lambda: sub.to_nifti(beyond, path), "60 voxels")
    for name in ("out.txt", "out", "out.nii.zip", "out.gz"):
        wrong(lambda name=name: sub.to_nifti(labelled, tmp_path / name), ".nii", ".nii.gz", name)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith((".out", "out"))]


def test_noise_ceiling_of_neither_or_both(sub):
    wrong(sub.get_noise_ceiling, "exactly one", "session", "desc")
    wrong(lambda: sub.get_noise_ceiling("ses-01", "NoiseceilingAllrep"), "exactly one")


@pytest.mark.parametrize("desc", ["Noiseceiling7rep", "", "4rep", ["Noiseceiling7rep"]])
def test_unknown_noise_ceiling(sub, desc):
    not_converted(lambda: sub.get_noise_ceiling(desc=desc), *CEILINGS)


def test_malformed_noise_ceiling(sub):
    with pytest.raises((NotConvertedError, ValueError)) as caught:
        sub.get_noise_ceiling(desc=4)
    for desc in CEILINGS:
        assert desc in str(caught.value)


@pytest.mark.parametrize("form", ["nifti", "", "gii.gz", None, 1])
def test_wrong_roi_format(sub, form):
    wrong(
        lambda: sub.get_roi_data("EBA", format=form),
        *("all", "volume", "nii.gz", "gii", "func.gii", "label", repr(form)),
    )


@pytest.mark.parametrize("hemi", ["left", "", "l", "LR", None, 1])
def test_wrong_hemisphere(sub, hemi):
    wrong(lambda: sub.get_roi_data("EBA", hemi=hemi), "'all'", "'L'", "'R'", repr(hemi))


def test_wrong_parts_and_masks(whole, new):
    wrong(lambda: convert(whole, new, parts="pictures", progress=False), "pictures", "surfaces")
    wrong(lambda: convert(whole, new, mask="brain", progress=False), "anatomical", "both")
    for options in (["--parts", "pictures"], ["--mask", "brain"]):
        with pytest.raises(SystemExit) as caught:
            command(whole, new, *options)
        assert caught.value.code == 2
    assert not new.exists()
