"""A subject, session or run may be named in every form of its id, wherever one is asked for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from laion_zarr import _release as release
from laion_zarr import convert, load_subject, load_subjects
from laion_zarr.compat import load_subject as numpy_subject
from laion_zarr.conversion.synthetic import write_dataset
from laion_zarr.derivatives import localizer_effect_path
from laion_zarr.download import filters, items
from laion_zarr.splits import get_train_test_ids
from laion_zarr.torch_data import LaionFMRIDataset

FIRST = [1, "1", "01", np.int64(1), np.uint8(1)]
NO_ID = [0, -1, True, 1.0, np.float32(1), np.True_, None, "", "1 ", "-1", "sub_01", "١", b"01"]


@pytest.mark.parametrize("given", FIRST)
def test_one_id_in_every_form(given):
    assert release.subject_id(given) == "sub-01"
    assert release.session_id(given) == "ses-01"
    assert release.run_number(given) == 1


def test_ids_as_they_are():
    assert release.session_id("ses-2") == "ses-2"  # a folder of this name may be there
    assert release.session_id("ses02") == release.session_id("ses2") == "ses-02"
    assert release.session_id(100) == "ses-100"
    assert release.session_id("4BarScreenfLoc") == "ses-4BarScreenfLoc"
    assert release.run_number("run-12") == 12


@pytest.mark.parametrize("given", NO_ID)
def test_no_id(given):
    for ask in (release.subject_id, release.session_id, release.run_number):
        with pytest.raises(ValueError, match=r"Expected one such as|number of a run"):
            ask(given)


@pytest.mark.parametrize("given", [*FIRST, "ses-01", np.array(1), np.array("ses-01")])
def test_session(store, sub, given):
    expected = sub.get_betas("ses-01")
    assert sub.get_betas(given).identical(expected)
    assert numpy_subject("01", store).get_betas(given).shape == expected.shape
    assert sub.sel(session=given)["session_id"].values.tolist() == ["ses-01"]
    assert sub.get_noise_ceiling(given).identical(sub.get_noise_ceiling("ses-01"))
    pd.testing.assert_frame_equal(sub.get_trial_info(given), sub.get_trial_info("ses-01"))
    assert sub.images.array(session=given).sizes["trial"] == len(expected)
    assert sub.embeddings.all("CLIP", given).sizes["trial"] == len(expected)
    assert sum(1 for _ in sub.images.all(given)) == len(expected)
    group = load_subjects("all", store)
    assert group.get_shared_betas(given)["sub-01"].identical(
        group.get_shared_betas("ses-01")["sub-01"]
    )


@pytest.mark.parametrize(
    "given", [[1, 2], (1, "ses-02"), np.array([1, 2]), pd.Series(["1", "02"]), {1: "", 2: ""}]
)
def test_sessions(sub, given):
    both = ["ses-01", "ses-02"]
    assert list(sub.get_betas(given)) == both
    assert list(sub.get_noise_ceiling(given)) == both
    assert list(sub.get_trial_info(given)) == both
    assert sub.sel(session=given).identical(sub.sel(session=both))


@pytest.mark.parametrize("given", [*FIRST, "sub-01"])
def test_subject(store, with_splits, given):
    assert load_subject(given, store).subject_id == "sub-01"
    assert load_subjects([given, 3], store)["3"].subject_id == "sub-03"
    assert [one for one, _ in load_subjects(given, store)] == ["sub-01"]
    assert get_train_test_ids("tau", given, store=with_splits) == get_train_test_ids(
        "tau", "sub-01", store=with_splits
    )
    assert items.subject_ids(given) == items.subject_ids([given]) == ["sub-01"]


def test_subjects_in_an_array(store):
    assert items.subject_ids(np.array([1, 3])) == ["sub-01", "sub-03"]
    group = load_subjects(np.array([3, 1]), store)
    assert [one for one, _ in group] == ["sub-01", "sub-03"]
    assert group[1].subject_id == "sub-03"  # an integer is a position
    assert group["1"].subject_id == "sub-01"


def test_conversion_and_files(tmp_path):
    write_dataset(tmp_path / "mirror", "tiny", [3], sessions=[2])
    report = convert(tmp_path / "mirror", tmp_path / "s.zarr", 3, 2, "betas", progress=False)
    assert load_subject(3, tmp_path / "s.zarr").get_sessions() == ["ses-02"]
    assert any("ses-02" in name for name in report.converted)


def test_filters_of_downloads():
    for given in (2, "2", "02", "ses-02", [2], np.array([2]), {2}):
        assert filters.parse({"ses": given})["ses"] == {"02"}
    assert filters.parse({"ses": ["averages", 2]})["ses"] == {"averages", "02"}
    for given in ([], True, 0, 1.0, [None]):
        with pytest.raises(ValueError, match="ses"):
            filters.parse({"ses": given})


def test_paths_of_localizers(tmp_path):
    path = release.localizer_map("sub-01", "ses-01", "floc", "face", 1, "L")
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).touch()
    for given in FIRST:
        found = localizer_effect_path(
            given, "floc", "face", given, given, hemi="L", data_dir=tmp_path
        )
        assert found == tmp_path / path


def test_torch_takes_ids(sub):
    pytest.importorskip("torch")
    assert len(LaionFMRIDataset(sub, 1)) == len(sub.get_betas("ses-01"))
