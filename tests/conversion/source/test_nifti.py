"""NIfTI files of betas and masks: damaged ones are refused, every number type is scaled right."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from small_mirror import (
    BARE,
    DAMAGES,
    LEAN,
    SHAPE,
    betas_file,
    check,
    command,
    inside,
    mask_file,
    nifti,
    pack,
    put,
    report_of,
    same,
    shards,
    teaches,
)
from trees import tree_bytes

from laion_zarr import convert, load_subject
from laion_zarr.errors import SourceError

# -- damaged betas

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
    before = tree_bytes(kept)
    path = betas_file()
    put(mirror, path, DAMAGES[damage]((whole / path).read_bytes()))
    with pytest.raises(SourceError) as caught:
        convert(mirror, kept, progress=False)
    teaches(caught.value, mirror / path)
    check(whole, kept)
    assert tree_bytes(kept) == before


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
