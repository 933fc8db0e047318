"""Stimulus files that change while they are read."""

from __future__ import annotations

import os

import pytest
from stimulus_mirror import FILE_OF, check, command, put, report_of, teaches
from stimulus_mirror import kept as kept
from stimulus_mirror import mirror as mirror
from stimulus_mirror import new as new
from stimulus_mirror import whole as whole
from stimulus_mirror import whole_store as whole_store
from trees import tree_bytes

import laion_zarr.conversion.source.hdf5 as hdf5_reader
from laion_zarr.conversion.source.files import Source
from laion_zarr.conversion.source.hdf5 import Hdf5


def changes_while_read(monkeypatch, path, change):
    """Change a file when its content is being read, after it was looked at."""
    left = [1]

    def strike(where):
        if path in str(where) and left[0]:
            left[0] -= 1
            change()

    rows, embeddings, read = Hdf5.rows, Hdf5.embeddings, Source.read

    def struck_rows(self, dataset):
        for number, some in enumerate(rows(self, dataset)):
            if number == 1:
                strike(self.path)
            yield some

    def struck_embeddings(self):
        strike(self.path)
        return embeddings(self)

    def struck_read(self, name):
        data = read(self, name)
        strike(name)
        return data

    monkeypatch.setattr(hdf5_reader, "_ROWS_AT_ONCE", 2)
    monkeypatch.setattr(Hdf5, "rows", struck_rows)
    monkeypatch.setattr(Hdf5, "embeddings", struck_embeddings)
    monkeypatch.setattr(Source, "read", struck_read)
    return left


@pytest.mark.parametrize(
    ("part", "how"),
    [
        *(("images", how) for how in ("cut", "other", "vanishes")),
        ("embeddings/CLIP", "cut"),
        ("segmentations", "vanishes"),
        ("segmentations", "other"),
        ("captions", "other"),
    ],
)
def test_source_that_changes_while_it_is_read(
    mirror, whole, whole_store, kept, new, monkeypatch, part, how
):
    path = FILE_OF[part]
    other = (whole / path).read_bytes()

    def change():
        if how == "vanishes":
            (mirror / path).unlink()
        elif how == "cut":
            os.truncate(mirror / path, len(other) // 2)
        else:
            (mirror / path).unlink()
            put(mirror, path, other[:-3] + bytes([other[-3] ^ 1]) + other[-2:])

    for store, options in ((new, {}), (kept, {"overwrite": True})):
        with monkeypatch.context() as patch:
            left = changes_while_read(patch, path, change)
            report = report_of(mirror, store, **options)
            assert left == [0]
        assert set(report.failed) == {f"stimuli {part}"}
        teaches(report.failed[f"stimuli {part}"], mirror / path)
        check(whole, store, lacks={part} if store == new else ())
        (mirror / path).unlink(missing_ok=True)
        put(mirror, path, other)
        assert command(mirror, store) == 0
        assert tree_bytes(store) == tree_bytes(whole_store)
