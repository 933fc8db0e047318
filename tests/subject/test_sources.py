"""What the parts of a subject were made from, against the files themselves."""

from __future__ import annotations

import zlib

import isal.igzip as igzip

from laion_zarr import load_subject


def test_sources(sub, bids_root):
    table = sub.sources()
    assert list(table) == ["part", "file", "size", "checksum"]
    assert not table.duplicated(["part", "file"]).any()
    assert {"ses-01", "ses-02", "voxels", "anatomy", "maps/ses-01"} <= set(table["part"])
    for row in table.itertuples():
        path = bids_root / row.file
        data = path.read_bytes()
        assert row.size == len(data)
        content = igzip.decompress(data) if path.suffix == ".gz" else data
        assert row.checksum == f"{zlib.crc32(content):08x}"
    betas = [name for name in table["file"] if "SingletrialBetas_statmap.nii.gz" in name]
    assert len(betas) == 2


def test_attributes_are_few_and_flat(sub):
    attrs = sub.dataset.attrs
    assert set(attrs) == {"subject", "shape", "affine", "schema_version", "laion_zarr_version"}
    assert len(attrs["affine"]) == 16
    assert all(type(number) is float for number in attrs["affine"])
    volume = sub.unmask(sub.get_noise_ceiling(desc="NoiseceilingAllrep"))
    for other in (volume, sub.get_brain_mask(), sub.get_brain_mask("rsquare")):
        assert other.attrs["affine"] == attrs["affine"]
    assert len(sub.get_brain_mask(res=None).attrs["affine"]) == 16


def test_a_ceiling_says_which_it_is(sub):
    assert sub.get_noise_ceiling(1).attrs["session"] == "ses-01"
    assert sub.get_noise_ceiling(desc="Noiseceiling4rep").attrs["desc"] == "Noiseceiling4rep"


def test_the_table_is_the_caller_s(store):
    """Each call gives a table of its own."""
    sub = load_subject("01", store)
    table = sub.sources()
    table["part"] = "changed"
    assert "changed" not in set(sub.sources()["part"])
