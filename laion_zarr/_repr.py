"""Overviews of subjects, stimuli, splits and reports, as plain text and as HTML for notebooks."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import xarray as xr

from laion_zarr._words import as_size
from laion_zarr.store.bounds.text import printable
from laion_zarr.store.schema import MASKS, NC, ROI, SESSION, TRIAL, VOXEL

_WIDTH = 100  # characters of a line of text
_LEFT = "text-align:left"


class Shown:
    """What shows itself as an overview; a class of this kind says its facts.

    Where some of these are messages, `_counted` says so: a notebook then shows how many, folded.
    """

    _counted = ""

    def _facts(self) -> dict[str, Any]:
        """What it is, how much, what is missing, the next call: label -> value."""
        raise NotImplementedError

    def _heading(self) -> str:
        """First line of the text."""
        return type(self).__name__

    def __repr__(self) -> str:
        return as_text(self._heading(), self._facts())

    def _repr_html_(self) -> str:
        return as_html({"laion_zarr": self._heading(), **self._facts()}, self._counted)


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
    ends = list(dict.fromkeys([*sessions[:1], *sessions[-1:]]))
    return {
        "Store": where,
        "Sessions": f"{len(sessions)} ({' … '.join(ends)})" if sessions else "none yet",
        "Trials": f"{dataset.sizes[TRIAL]:,}",
        "Images": f"{len(set(dataset['image_name'].values.tolist())):,}",
        "Voxels": ", ".join(f"{count:,} {name}" for name, count in masks.items())
        + f" ({dataset.sizes[VOXEL]:,} stored)",
        "Betas": f"{as_size(dataset.sizes[TRIAL] * dataset.sizes[VOXEL] * 4)}, lazy",
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


def some(items: Sequence[str], shown: int = 3) -> str:
    """Number of items, with the first few: ``"19 (voxels, anatomy, events, …)"``; or ``"none"``."""
    more = ", …" if len(items) > shown else ""
    return f"{len(items):,} ({', '.join(items[:shown])}{more})" if items else "none"


def listed(items: Iterable[str], shown: int = 10) -> dict[str, str] | str:
    """Messages by number, as a value of an overview, at most so many; or ``"none"``."""
    found = list(items)
    numbered = {f"{n}": text for n, text in enumerate(found[:shown], 1)}
    more = {"…": f"and {len(found) - shown:,} more"} if len(found) > shown else {}
    return numbered | more or "none"


def as_html(found: dict[str, Any], counted: str = "") -> str:
    """Format an overview as an HTML table.

    A value that is a dict is folded; shown of it are its names, or how many `counted` there are.
    """
    rows = []
    for name, value in found.items():
        if isinstance(value, dict):
            inner = "".join(
                f"<div><b>{escape(category)}</b> {escape(rois)}</div>"
                for category, rois in value.items()
            )
            said = f"{len(value)} {counted}" if counted else ", ".join(value)
            said = escape(textwrap.shorten(said, _WIDTH, placeholder=" …"))
            cell = f"<details><summary>{said}</summary>{inner}</details>"
        else:
            cell = escape(str(value))
        rows.append(
            f"<tr><th style='{_LEFT};padding-right:1em;white-space:nowrap'>{escape(name)}</th>"
            f"<td style='{_LEFT}'>{cell}</td></tr>"
        )
    return f"<table>{''.join(rows)}</table>"
