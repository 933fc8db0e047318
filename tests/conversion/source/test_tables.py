"""Trial tables and stimulus metadata that are shuffled, wrong or damaged."""

from __future__ import annotations

import pandas as pd
import pytest
from small_mirror import (
    HTML,
    LEAN,
    METADATA,
    betas_file,
    check,
    command,
    put,
    report_of,
    teaches,
    trials_file,
    write_table,
)

from laion_zarr import load_subject
from laion_zarr.errors import StimuliNotDownloadedError

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


# -- stimulus metadata

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
