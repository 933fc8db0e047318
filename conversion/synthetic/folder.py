"""Folder of the synthetic dataset: writes files at the paths of the release, and their sidecars."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

import nibabel as nib
import pandas as pd
from isal import igzip
from numpy.typing import NDArray

from laion_zarr import _release as release
from laion_zarr.conversion.synthetic.model import phantom

NOTE = "Synthetic data in the layout of the LAION-fMRI release. No person was scanned for it."


@dataclass(frozen=True)
class Folder:
    """Folder of the dataset: writes files at the paths of the release, and their sidecars."""

    root: Path

    def target(self, path: PurePosixPath) -> Path:
        """Path of a file below the root; makes the file's folder."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def text(self, path: PurePosixPath, text: str) -> None:
        """Write a text file."""
        self.target(path).write_text(text, encoding="utf-8", newline="\n")

    def sidecar(self, path: PurePosixPath, content: Mapping[str, object]) -> None:
        """Write the sidecar of a file."""
        self.text(PurePosixPath(release.sidecar(str(path))), json.dumps(content, indent=2) + "\n")

    def table(self, path: PurePosixPath, table: pd.DataFrame, separator: str) -> None:
        """Write a table, its columns separated by `separator`."""
        self.text(path, table.to_csv(sep=separator, index=False, lineterminator="\n"))

    def description(self, folder: PurePosixPath, name: str, kind: str) -> None:
        """Write the description of the dataset, or of a derivative."""
        content = {
            "Name": name,
            "BIDSVersion": "1.9.0",
            "DatasetType": kind,
            "License": "CC0",
            "HowToAcknowledge": NOTE,
            "GeneratedBy": [{"Name": __package__}],
        }
        self.text(folder / release.DATASET_DESCRIPTION, json.dumps(content, indent=2) + "\n")

    def packed(self, path: PurePosixPath, pieces: Iterable[bytes]) -> None:
        """Write a gzip file from an iterable of pieces of its content."""
        # No file name and no time in the gzip header: the same content gives the same bytes.
        with (
            self.target(path).open("wb") as raw,
            igzip.IGzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as stream,
        ):
            for piece in pieces:
                stream.write(piece)

    def series(
        self,
        path: PurePosixPath,
        grid: phantom.Grid,
        shape: tuple[int, ...],
        volumes: Iterable[NDArray],
        step: float = 1,
    ) -> None:
        """Write a NIfTI file volume by volume, each flat in the order of the file (Fortran).

        `step` is the time from one volume to the next, in s.
        """
        header = nib.Nifti1Header()
        volumes = iter(volumes)
        first = next(volumes)
        header.set_data_dtype(first.dtype)
        header.set_data_shape(shape)
        header.set_zooms((grid.voxel_mm,) * 3 + (step,) * (len(shape) - 3))
        header.set_xyzt_units("mm", "sec")
        header.set_sform(grid.affine, "scanner")
        header.set_qform(grid.affine, "scanner")
        no_extension = bytes(4)
        header["vox_offset"] = len(header.binaryblock) + len(no_extension)
        start = (header.binaryblock + no_extension, first.tobytes())
        self.packed(path, chain(start, (volume.tobytes() for volume in volumes)))

    def volume(
        self,
        path: PurePosixPath,
        grid: phantom.Grid,
        values: NDArray,
        sidecar: Mapping[str, object],
    ) -> None:
        """Write a 3-D NIfTI file from flat values in C order, and its sidecar."""
        in_file_order = values.reshape(grid.shape).ravel(order="F")
        self.series(path, grid, grid.shape, [in_file_order])
        self.sidecar(path, sidecar)
