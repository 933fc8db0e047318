"""Overviews of subjects, stimuli, splits and reports, as plain text and as HTML for notebooks."""

from __future__ import annotations

import textwrap
from html import escape
from typing import Any

import xarray as xr

from laion_zarr.store.bounds.text import printable
from laion_zarr.store.schema import MASKS, NC, ROI, SESSION, TRIAL, VOXEL

_WIDTH = 100  # characters of a line of text


class Shown:
    """What shows itself as an overview; a class of this kind says its facts."""

    def _facts(self) -> dict[str, Any]:
        """What it is, how much, what is missing, the next call: label -> value."""
        raise NotImplementedError

    def _heading(self) -> str:
        """First line of the text."""
        return type(self).__name__

    def __repr__(self) -> str:
        return as_text(self._heading(), self._facts())

    def _repr_html_(self) -> str:
        return as_html({"laion_zarr": self._heading(), **self._facts()})


def _rois_by_category(dataset: xr.Dataset) -> dict[str, list[str]]:
    if "roi_mask" not in dataset:
        return {}
    found: dict[str, list[str]] = {}
    pairs = zip(dataset["category"].values, dataset[ROI].values, strict=True)
    for category, roi in sorted(pairs):
        found.setdefault(category, []).append(roi)
    return found


def facts(where: str, dataset: xr.Dataset) -> dict[str, Any]:
    """Overview of a subject, label -> value, such as "Trials" -> number of trials."""
    sessions = dataset[SESSION].values.tolist()
    masks = {
        name: int(dataset[f"in_{name}"].sum()) for name in MASKS if f"in_{name}" in dataset.coords
    }
    ceilings = dataset[NC].values.tolist() if NC in dataset.coords else []
    rois = _rois_by_category(dataset)
    gigabytes = dataset.sizes[TRIAL] * dataset.sizes[VOXEL] * 4 / 1e9
    ends = list(dict.fromkeys([*sessions[:1], *sessions[-1:]]))
    return {
        "Store": where,
        "Sessions": f"{len(sessions)} ({' … '.join(ends)})" if sessions else "none yet",
        "Trials": f"{dataset.sizes[TRIAL]:,}",
        "Images": f"{len(set(dataset['image_name'].values.tolist())):,}",
        "Voxels": ", ".join(f"{count:,} {name}" for name, count in masks.items())
        + f" ({dataset.sizes[VOXEL]:,} stored)",
        "Betas": f"{gigabytes:.3g} GB, lazy",
        "Noise ceilings": ", ".join(ceilings) or "none",
        "ROIs": {category: ", ".join(names) for category, names in rois.items()} or "none",
        "Next": ".get_betas(roi=…), .get_image_betas(roi=…), .metadata, .dataset, .explore()",
    }


def as_text(what: str, found: dict[str, Any]) -> str:
    """Format an overview as plain text, one entry per line, without control characters."""
    lines = [f"<laion_zarr.{what}>"]
    for name, value in found.items():
        if isinstance(value, dict):
            lines.append(f"  {name}:")
            for category, rois in value.items():
                lines += textwrap.wrap(f"    {category}: {rois}", _WIDTH, subsequent_indent=" " * 6)
        else:
            lines.append(f"  {name + ':':<16}{value}")
    return "\n".join(map(printable, lines))


def as_html(found: dict[str, Any]) -> str:
    """Format an overview as an HTML table."""
    rows = []
    for name, value in found.items():
        if isinstance(value, dict):
            inner = "".join(
                f"<div><b>{escape(category)}</b> {escape(rois)}</div>"
                for category, rois in value.items()
            )
            names = escape(textwrap.shorten(", ".join(value), _WIDTH, placeholder=" …"))
            cell = f"<details><summary>{names}</summary>{inner}</details>"
        else:
            cell = escape(str(value))
        rows.append(
            f"<tr><th style='text-align:left;padding-right:1em'>{escape(name)}</th>"
            f"<td style='text-align:left'>{cell}</td></tr>"
        )
    return f"<table>{''.join(rows)}</table>"
