"""What parsers cannot hold is kept exactly, or is an error that says where it is."""

from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_mirror import (
    METADATA,
    betas_file,
    check,
    command,
    put,
    report_of,
    sidecar_file,
    teaches,
    trials_file,
    write_table,
)

from laion_zarr import load_stimuli, load_subject
from laion_zarr.conversion.source.files import open_source
from laion_zarr.conversion.source.json_text import parse_json
from laion_zarr.conversion.source.splits import parse_split
from laion_zarr.conversion.source.tables import read_table
from laion_zarr.conversion.verification.store import run_verification
from laion_zarr.errors import SourceError

# -- numbers in tables

WHOLE = st.integers(-(2**70), 2**70) | st.integers(2**53 - 3, 2**53 + 3) | st.integers(-9, 9)
TEXTS = WHOLE.map(str) | st.sampled_from(["", "n/a", "0.5", "-1.25", "1e3", "1e999", "-1e999"])


@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_any_numbers_are_kept(tmp_path_factory, texts):
    """A column is numbers only if each of them is the one in the file."""
    folder = tmp_path_factory.mktemp("table")
    pd.DataFrame({"x": texts, "name": "a"}).to_csv(folder / "a.csv", index=False)
    found = read_table(open_source(folder), "a.csv", ["x"])["x"]
    for value, text in zip(found.tolist(), texts, strict=True):
        if isinstance(value, str):
            assert value == text
        elif text in ("", "n/a"):
            assert np.isnan(value)
        else:
            assert value == (int(text) if text.lstrip("-").isdigit() else float(text))
            assert np.isfinite(value)
    if all(text.lstrip("-").isdigit() and abs(int(text)) < 2**53 for text in texts):
        assert found.dtype == np.int64


COLUMNS = {
    "64 bits": [str(2**64 - n) for n in range(1, 8)],
    "128 bits": [str(2**100 + n) for n in range(7)],
    "a sign": ["-5", *(str(2**63 + n) for n in range(6))],
    "gaps": ["", *(str(2**60 + n) for n in range(6))],
    "fractions": ["0.5", *(str(2**60 + n) for n in range(6))],
    "digits by the thousand": ["9" * 5000, *"123456"],
    "overflowing": ["1e999", *"123456"],
}


@pytest.mark.parametrize("case", COLUMNS)
def test_further_columns_of_the_metadata(mirror, new, case):
    """As stored, and joined with trials, some of which have no row in the metadata."""
    raw = COLUMNS[case]
    table = pd.read_csv(mirror / METADATA, dtype=str).assign(further=raw)
    write_table(mirror, METADATA, table.iloc[:-1])
    assert not report_of(mirror, new, subjects="01").failed
    found = load_stimuli(new).metadata["further"].tolist()
    assert [str(value) for value in found] == raw[:-1]
    assert not run_verification(new, mirror, True, None, False).problems
    trials = load_subject("01", new).dataset
    right = dict(zip(table["image_name"][:-1], raw[:-1], strict=True))
    for name, value in zip(trials["image_name"].values, trials["further"].values, strict=True):
        if name in right:
            assert str(value).removesuffix(".0") == right[name]


def test_sessions_whose_numbers_differ_in_kind(lean, new):
    """Large in one session, absent or small in the other."""
    for ses, first in (("ses-01", 2**63), ("ses-02", 1)):
        table = pd.read_csv(lean / trials_file(ses=ses), sep="\t")
        table["id"] = [str(first + n) for n in range(len(table))]
        table = table if ses == "ses-02" else table.assign(only_here=table["id"])
        write_table(lean, trials_file(ses=ses), table)
    assert not report_of(lean, new).failed
    trials = load_subject("01", new).dataset
    expected = [*(str(2**63 + n) for n in range(6)), *(str(1 + n) for n in range(5))]
    assert [str(value) for value in trials["id"].values] == expected
    assert [str(value) for value in trials["only_here"].values][:6] == expected[:6]


@pytest.mark.parametrize("column", ["run", "beta_index"])
def test_runs_beyond_64_bits(lean, new, column):
    table = pd.read_csv(lean / trials_file(), sep="\t", dtype=str)
    table[column] = [str(2**63 + n) for n in range(len(table))]
    write_table(lean, trials_file(), table)
    (error,) = report_of(lean, new).failed.values()
    teaches(error, lean / trials_file(), column)


# -- text in tables


def test_long_fields(mirror, whole, new):
    table = pd.read_csv(mirror / METADATA).assign(note="ab, \n" * 30_000)
    write_table(mirror, METADATA, table)
    assert not report_of(mirror, new).failed
    assert load_stimuli(new).metadata["note"].tolist() == table["note"].tolist()
    check(whole, new)


BAD_TABLES = {
    "Latin-1": ("naïve".encode("latin-1"), ["0xef in line 3", "UTF-8"]),
    "cut in a character": ("日".encode()[:2], ["line 3", "UTF-8"]),
    "half a character": (b"\xed\xa0\x80", ["line 3", "UTF-8"]),
    "a null character": (b"a\0b", ["null character in line 3"]),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_text_that_is_not_utf8(mirror, new, case):
    raw, words = BAD_TABLES[case]
    head, first, second, *rest = (mirror / METADATA).read_bytes().split(b"\n")
    put(mirror, METADATA, b"\n".join([head, first, second + raw, *rest]))
    report = report_of(mirror, new)
    assert {type(error) for error in report.failed.values()} == {SourceError}
    teaches(report.failed["stimuli metadata"], mirror / METADATA, *words)
    assert load_subject("01", new).get_sessions() == ["ses-01", "ses-02"]


def test_utf16(mirror, new):
    put(mirror, METADATA, (mirror / METADATA).read_text().encode("utf-16"))
    teaches(report_of(mirror, new).failed["stimuli metadata"], mirror / METADATA, "UTF-16", "UTF-8")


def test_byte_order_mark(mirror, whole, new):
    put(mirror, METADATA, b"\xef\xbb\xbf" + (mirror / METADATA).read_bytes())
    assert not report_of(mirror, new).failed
    check(whole, new)


def test_columns_twice(lean, new):
    lines = (lean / trials_file()).read_text().splitlines()
    text = "\n".join(f"{line}\t{'run' if n == 0 else n}" for n, line in enumerate(lines))
    put(lean, trials_file(), text.encode())
    (error,) = report_of(lean, new).failed.values()
    teaches(error, lean / trials_file(), "'run' twice")


# -- JSON


def strict(store):
    """Every ``zarr.json`` of a store, parsed as the standard has it."""

    def refuse(text):
        raise AssertionError(text)

    def whole(text):
        assert abs(int(text)) < 2**64
        return int(text)

    found = {}
    for path in store.rglob("*.json"):
        found[path] = json.loads(path.read_bytes(), parse_constant=refuse, parse_int=whole)
        json.dumps(found[path], ensure_ascii=False, allow_nan=False).encode()
    return found


def test_numbers_that_json_does_not_hold(lean, first):
    text = (
        '{"a": 1e999, "b": [-1e999, NaN, -Infinity], "c": 123456789012345678901234567890, "d": 5}'
    )
    text = text.replace('"d": 5', f'"d": 5, "e": {"7" * 5000}, "f": 1.5, "g": -9007199254740993')
    put(lean, sidecar_file(betas_file()), text.encode())
    assert not report_of(lean, first).failed
    nodes = strict(first)
    found = nodes[first / "sub-01/ses-02/betas/zarr.json"]["attributes"]["sidecar"]
    assert found == {
        "a": "1e999",
        "b": ["-1e999", None, None],
        "c": "123456789012345678901234567890",
        "d": 5,
        "e": "7" * 5000,
        "f": 1.5,
        "g": "-9007199254740993",
    }


BAD_JSON = {
    "deep": (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", ["nested too deep"]),
    "too deep for others": (b'{"a": {"b": ' + b"[" * 70 + b"]" * 70 + b"}}", ["/a/b/0"]),
    "half a character": (rb'{"a": {"b": ["c", "\ud800"]}}', ["surrogate", "/a/b/1"]),
    "half a character in a name": (rb'{"\udfff": 1}', ["surrogate", "name"]),
    "Latin-1": ('{"a": "é"}'.encode("latin-1"), ["0xe9"]),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_json_that_cannot_be_kept(lean, new, case):
    """It fails its session by name, and the other one is converted."""
    data, words = BAD_JSON[case]
    put(lean, sidecar_file(betas_file()), data)
    report = report_of(lean, new)
    (error,) = report.failed.values()
    teaches(error, lean / sidecar_file(betas_file()), *words)
    assert load_subject("01", new).get_sessions() == ["ses-01"]
    strict(new)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(max_size=4)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
)


@settings(max_examples=30)
@given(JSON)
def test_any_json(value):
    assert parse_json("a.json", json.dumps(value).encode()) == value
    assert parse_json("a.json", json.dumps(value).encode("utf-16")) == value


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"name": 1e999, "a": NaN}', r'{"name": "\ud800"}']
)
def test_split_files(text):
    with pytest.raises(SourceError, match=r"tau\.json"):
        parse_split("shared/tau.json", "shared/tau.json", text.encode())


# -- names


def test_a_file_whose_name_is_not_utf8(mirror, whole, new, capsys, caplog):
    """It is named once, and everything else is converted."""
    folder = os.fsencode(mirror / "derivatives/rois/sub-01/face")
    name = b"sub-01_space-T1w_res-1pt8_label-F\xffA_mask.nii.gz"
    try:
        with open(folder + b"/" + name, "wb") as file:  # noqa: PTH123
            file.write(b"x")
    except OSError:
        pytest.skip("this file system has no such names")
    assert command(mirror, new) == 0
    assert caplog.text.count("its name is not UTF-8") == 1
    assert r"label-F\udcffA" in caplog.text
    capsys.readouterr().err.encode()
    check(whole, new)
