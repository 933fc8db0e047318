"""Headers are read with nibabel's affine; where fields contradict, the error says which."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_mirror import AFFINE, SHAPE, moved, nifti, pack, put, report_of, roi_file, teaches

from laion_zarr.conversion.source.files import open_source
from laion_zarr.conversion.source.nifti import read_map
from laion_zarr.errors import SourceError

VALUES = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)


def with_fields(data, version=1, **fields):
    size = {1: 348, 2: 540}[version]
    header = (nib.Nifti1Header if version == 1 else nib.Nifti2Header)(data[:size], check=False)
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + data[size:]


def nifti2(values, order="<"):
    header = nib.Nifti2Header(endianness=order)
    header.set_data_dtype(values.dtype.newbyteorder(order))
    header.set_data_shape(values.shape)
    header.set_sform(AFFINE, 1)
    header.set_qform(AFFINE, 1)
    header["vox_offset"] = 544
    return header.binaryblock + bytes(4) + values.astype(header.get_data_dtype()).tobytes("F")


LEGAL = {
    "qform alone": {"sform_code": 0, "srow_x": 0, "srow_y": 0, "srow_z": 0},
    "qform alone, pixdim[0] of 0": {
        "sform_code": 0,
        "pixdim": [0, 1.7778, 1.7778, 1.7778, 1, 1, 1, 1],
    },
    "negative pixdim": {"pixdim": [1, -1.7778, 1.7778, 1.7778, 1, 1, 1, 1]},
    "negative pixdim, qform alone": {"sform_code": 0, "pixdim": [-1, 2, -2, 2, 1, 1, 1, 1]},
    "pixdim[0] of NaN": {"sform_code": 0, "pixdim": [np.nan, 2, 2, 2, 1, 1, 1, 1]},
    "an unknown code of the sform": {"sform_code": 77},
    "sform alone": {"qform_code": 0},
    "no quaternion, but an sform": {"quatern_b": 3.0},
    "neither form": {"sform_code": 0, "qform_code": 0},
    "another qform": {"qoffset_x": 40.0},
}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("case", LEGAL)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_the_affine_is_that_of_nibabel(tmp_path, caplog, version, order, case, ending):
    data = nifti(VALUES, order=order) if version == 1 else nifti2(VALUES, order)
    data = with_fields(data, version, **LEGAL[case])
    (tmp_path / f"a{ending}").write_bytes(pack(data) if ending.endswith("gz") else data)
    values, grid = read_map(open_source(tmp_path), f"a{ending}")
    assert not caplog.records
    expected = nib.load(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(grid.affine, expected.affine)
    np.testing.assert_array_equal(values, VALUES)


numbers = st.floats(0.125, 3) | st.floats(-3, -0.125) | st.sampled_from([0.0, 1.0, -1.0])


@given(
    st.lists(numbers, min_size=4, max_size=4),
    st.integers(-1, 7),
    st.integers(-1, 7),
    st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=3),
)
def test_any_header(tmp_path_factory, pixdim, sform_code, qform_code, quaternion):
    folder = tmp_path_factory.mktemp("any")
    fields = dict(zip(("quatern_b", "quatern_c", "quatern_d"), quaternion, strict=True))
    fields |= {"pixdim": [*pixdim, 1, 1, 1, 1], "sform_code": sform_code, "qform_code": qform_code}
    (folder / "a.nii").write_bytes(with_fields(nifti(VALUES), **fields))
    expected = nib.load(folder / "a.nii").affine
    found = read_map(open_source(folder), "a.nii")[1].affine
    np.testing.assert_array_equal(found, expected)


def test_extensions_and_one_volume(tmp_path):
    """Blocks between header and data are skipped; 4-D of one volume is 3-D."""
    image = nib.Nifti1Image(VALUES[..., None], AFFINE)
    for n in (5, 3000):
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * n))
    nib.save(image, tmp_path / "a.nii.gz")
    head = nib.Nifti1Header(gzip.decompress((tmp_path / "a.nii.gz").read_bytes())[:348])
    assert head["vox_offset"] > 3352
    values, grid = read_map(open_source(tmp_path), "a.nii.gz")
    np.testing.assert_array_equal(values, VALUES)
    assert grid.shape == SHAPE


def test_one_volume_is_converted_and_verified(mirror, new):
    from laion_zarr.conversion.verification.store import run_verification

    mask = nib.load(mirror / roi_file("EBA"))
    put(mirror, roi_file("EBA"), pack(nifti(np.asarray(mask.dataobj)[..., None])))
    assert not report_of(mirror, new, subjects="01").failed
    assert not run_verification(new, mirror, True, None, False).problems


CONTRADICTIONS = {
    "the qform agrees": (nifti(VALUES, moved(3)), {"qoffset_y": AFFINE[1, 3]}, "its qform is that"),
    "neither agrees": (
        nifti(VALUES, moved(3)),
        {"qoffset_y": AFFINE[1, 3] + 5},
        "its qform is 5 mm",
    ),
    "one says so": (nifti(VALUES, moved(3)), {}, "its sform"),
    "the qform alone": (nifti(VALUES, moved(3)), {"sform_code": 0}, "its qform"),
    "neither code": (nifti(VALUES), {"sform_code": 0, "qform_code": 0}, "its pixdim"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_which_field_contradicts(mirror, new, case):
    data, fields, words = CONTRADICTIONS[case]
    put(mirror, roi_file("EBA"), pack(with_fields(data, **fields)))
    report = report_of(mirror, new, subjects="01")
    (error,) = report.failed.values()
    teaches(error, mirror / roi_file("EBA"), "affine", words)


NO_GRIDS = {
    "zeros": {"srow_x": 0, "srow_y": 0, "srow_z": 0},
    "NaN": {"srow_z": [0, np.nan, 0, 0]},
    "infinite": {"srow_x": [np.inf, 0, 0, 0]},
    "a plane": {"srow_y": [-1.7778, 0, 0, 4]},
}


@pytest.mark.parametrize("case", NO_GRIDS)
def test_an_affine_that_spans_no_grid(tmp_path, case):
    (tmp_path / "a.nii").write_bytes(with_fields(nifti(VALUES), **NO_GRIDS[case]))
    with pytest.raises(SourceError, match="in its sform"):
        read_map(open_source(tmp_path), "a.nii")


def test_the_tests_have_other_affines():
    data = gzip.decompress(pack(nifti(VALUES)))
    affines = [nib.Nifti1Image.from_bytes(with_fields(data, **f)).affine for f in LEGAL.values()]
    assert len({affine.round(3).tobytes() for affine in affines}) >= 4
