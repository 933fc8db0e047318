"""Write the parts of the stimuli: metadata, pictures, embeddings, segmentations, captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from laion_zarr.conversion.parts.session import column_spec
from laion_zarr.conversion.parts.subject import Sources, attributes_of
from laion_zarr.conversion.source.files import Identity, Source
from laion_zarr.conversion.source.hdf5 import open_hdf5
from laion_zarr.conversion.source.problems import damaged
from laion_zarr.conversion.source.tables import read_metadata, read_table
from laion_zarr.conversion.write.rows import RowWriter
from laion_zarr.conversion.write.writer import PartWriter
from laion_zarr.stimuli.decode import open_picture
from laion_zarr.store import codec, schema
from laion_zarr.store.parts import Part
from laion_zarr.store.schema import ArraySpec

Progress = Callable[[int], object]
NAMES = schema.IMAGE_NAME.name  # key in a part's sources: the image names in row order
_ROUNDED = 0.5  # pixels by which the end of a box may lie outside
_WRITTEN_AT_ONCE = 512  # embeddings that are reordered and passed to the writer at once


def identity_of_names(names: Sequence[str]) -> Identity:
    """Length and CRC-32 of a list of image names, by which the list is recognized."""
    return {"rows": len(names), "crc32": codec.crc32("\0".join(names).encode())}


def _write_columns(
    writer: PartWriter, table: pd.DataFrame, specs: dict[str, ArraySpec], dim: str
) -> dict[str, str]:
    """Write a table, one array per column; returns the name of the array of each column."""
    arrays = schema.stimulus_columns(table.columns)
    for name, stored in arrays.items():
        spec = specs.get(stored) or column_spec(stored, table[name], (dim,))
        writer.array(spec, table[name].to_numpy())
    return arrays


def _check_integers(path: str, table: pd.DataFrame, columns: Sequence[str]) -> None:
    for name in columns:
        if len(table) and table[name].dtype.kind != "i":  # "u": beyond what the store's int64 holds
            raise damaged(path, f"{name} {table[name].iloc[:3].tolist()} …", "whole numbers")


def _check_segmentations(
    path: str, table: pd.DataFrame, shape: tuple[int, ...], masks_file: str
) -> None:
    """Raise if a row of the table points to no mask, to that of another row, or beyond its picture.

    `shape` is that of the masks, (mask, y, x).
    """
    _check_integers(path, table, ["mask_row", "instance_id", "localized"])
    rows = table["mask_row"].to_numpy()
    if (wrong := np.flatnonzero((rows < 0) | (rows >= shape[0]))).size:
        row = wrong[0]
        expected = f"rows of the {shape[0]} masks of {masks_file}"
        raise damaged(path, f"mask_row {rows[row]} in row {row + 1}", expected)
    if (wrong := np.flatnonzero(table["mask_row"].duplicated())).size:
        row, first = wrong[0], int(np.flatnonzero(rows == rows[wrong[0]])[0])
        found = f"mask_row {rows[row]} in the rows {first + 1} and {row + 1}"
        raise damaged(path, found, "each mask once")
    for side, length in (("x", shape[2]), ("y", shape[1])):
        _check_box(path, table, (f"box_{side}0", f"box_{side}1"), length)


def _check_box(path: str, table: pd.DataFrame, ends: tuple[str, str], length: int) -> None:
    """Raise unless the ends of each box, where there are some, are in order within the picture."""
    if not set(ends) <= set(table.columns):
        return
    lo, hi = (pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64) for name in ends)
    beyond = (lo < -_ROUNDED) | (hi > length + _ROUNDED) | (lo > hi)
    beyond |= (hi < -_ROUNDED) | (lo > length + _ROUNDED)
    if (wrong := np.flatnonzero(beyond)).size:
        row = wrong[0]
        found = f"{ends[0]} {lo[row]:g}, {ends[1]} {hi[row]:g} in row {row + 1}"
        raise damaged(path, found, f"a box within 0 … {length}, ends in order")


def write_metadata(writer: PartWriter, source: Source, file: str, ids: Sources) -> Part:
    """Write the stimulus metadata, rows in the order of the source file."""
    table = read_metadata(source, file)
    source.check_unchanged(ids)
    arrays = _write_columns(writer, table, {NAMES: schema.IMAGE_NAME}, schema.IMAGE)
    writer.group({"csv_columns": arrays} | attributes_of(source, file, ids))
    return writer.part(ids)


def write_captions(writer: PartWriter, source: Source, file: str, ids: Sources) -> Part:
    """Write the captions, rows in the order of the source file."""
    table = read_table(source, file, list(schema.CAPTION_ARRAYS))
    _check_integers(source.full(file), table, ["caption_idx"])
    source.check_unchanged(ids)
    arrays = _write_columns(writer, table, schema.CAPTION_ARRAYS, "row")
    writer.group({"csv_columns": arrays} | attributes_of(source, file, ids))
    return writer.part(ids)


def write_segmentations(
    writer: PartWriter,
    source: Source,
    files: tuple[str, str],
    ids: Sources,
    progress: Progress,
) -> Part:
    """Write the segmentation masks and their table; `files` are the HDF5 and the CSV file."""
    masks_file, table_file = files
    columns = [name for name, spec in schema.SEGMENTATION_ARRAYS.items() if spec.dims == ("row",)]
    table = read_table(source, table_file, columns)
    with open_hdf5(source, masks_file) as hdf5:
        masks = hdf5.masks()
        _check_segmentations(source.full(table_file), table, masks.shape, masks_file)
        attributes = attributes_of(source, masks_file, ids)
        rows = RowWriter(writer, schema.MASKS_2D, masks.shape[1:], attributes)
        for some in hdf5.rows(masks):
            rows.add(some)
            progress(len(some) * ids[masks_file]["size"] // len(masks))
        rows.finish()
    source.check_unchanged(ids)
    arrays = _write_columns(writer, table, schema.SEGMENTATION_ARRAYS, "row")
    writer.group({"csv_columns": arrays} | attributes_of(source, table_file, ids))
    return writer.part(ids)


def write_embeddings(
    writer: PartWriter,
    source: Source,
    file: str,
    ids: Sources,
    names: Sequence[str] | None,
) -> Part:
    """Write one model's embeddings: images of `names` in this order, then all other images."""
    with open_hdf5(source, file) as hdf5:
        values, labels, valid = hdf5.embeddings()
    source.check_unchanged({file: ids[file]})
    index = pd.Index(labels)
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise damaged(source.full(file), f"{twice!r} twice", "each image once")
    order = np.arange(len(index))
    if names is not None:
        known = index.get_indexer(pd.Index(np.array(names, dtype=object)))
        known = known[known >= 0]
        order = np.concatenate([known, np.setdiff1d(order, known)])
    values[~valid] = np.nan
    rows = RowWriter(writer, schema.EMBEDDING, values.shape[1:], {})
    for lo in range(0, len(order), _WRITTEN_AT_ONCE):
        rows.add(values[order[lo : lo + _WRITTEN_AT_ONCE]])
    rows.finish()
    writer.array(schema.IMAGE_NAME, labels[order])
    writer.array(schema.EMBEDDING_ARRAYS["valid"], valid[order])
    writer.group(attributes_of(source, file, ids))
    return writer.part(ids)


def write_images(
    writer: PartWriter,
    source: Source,
    file: str,
    ids: Sources,
    names: Sequence[str],
    progress: Progress,
) -> Part:
    """Write the bytes of all picture files, unchanged, one after the other."""
    with open_hdf5(source, file) as hdf5:
        count, pictures = hdf5.pictures()
        if count != len(names):
            raise damaged(
                source.full(file), f"{count} pictures", f"{len(names)}, one per row of the metadata"
            )
        columns: list[tuple[int, int, int, int]] = []
        data = RowWriter(writer, schema.PICTURE_BYTES, (), attributes_of(source, file, ids))
        for picture in pictures:
            data.add(np.frombuffer(picture, np.uint8))
            columns.append((len(picture), codec.crc32(picture), *_size(picture)))
            progress(len(picture))
        data.finish()
    source.check_unchanged({file: ids[file]})
    nbytes, crcs, height, width = np.array(columns, dtype=np.int64).reshape(-1, 4).T
    values = {"start": np.cumsum(nbytes) - nbytes, "nbytes": nbytes, "crc32": crcs}
    for name, column in (values | {"height": height, "width": width}).items():
        writer.array(schema.IMAGE_ARRAYS[name], column)
    writer.array(schema.IMAGE_NAME, np.array(names, dtype=object))
    writer.group({"license": schema.IMAGE_LICENSE} | attributes_of(source, file, ids))
    return writer.part(ids)


def _size(picture: bytes) -> tuple[int, int]:
    """Height and width of a picture from its file's header; (0, 0) if that cannot be read."""
    try:
        width, height = open_picture(picture).size
    except Exception:  # Pillow raises many types on damaged files
        return 0, 0
    return height, width
