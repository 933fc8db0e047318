"""Pictures of values in the brain; needs matplotlib (``pip install laion-zarr[plot]``)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from laion_zarr.store.schema import HEMI
from laion_zarr.templates import recon

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage

# Cut off the tails, so that a few bright voxels do not darken the rest.
_BACKGROUND_PERCENTILES = (1, 99.5)
# Told apart on grey and on warm colour maps alike.
_SLICES = 12
# Values beyond are drawn in the colour of the last ones.
_VALUE_PERCENTILE = 98
_VIEWS = (("L", "lateral"), ("L", "medial"), ("R", "medial"), ("R", "lateral"))
_OUTLINE_COLOURS = ("cyan", "lime", "white", "magenta", "dodgerblue", "greenyellow")


def upright(volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Turn a volume's axes to the right, front and top, whichever way they ran.

    Parameters
    ----------
    volume : numpy.ndarray, (i, j, k)
    affine : numpy.ndarray, (4, 4)
        Indices to mm.

    Returns
    -------
    numpy.ndarray, (x, y, z)
    """
    from nibabel.orientations import apply_orientation, io_orientation

    return apply_orientation(volume, io_orientation(affine))


def axial_slices(mask: np.ndarray, count: int) -> list[int]:
    """Levels spread evenly over the part of a volume that a mask covers.

    Parameters
    ----------
    mask : numpy.ndarray, (x, y, z) bool
    count : int
        How many levels.

    Returns
    -------
    list of int
        Positions along z, ascending.
    """
    levels = np.flatnonzero(mask.any(axis=(0, 1)))
    inner = np.linspace(levels[0], levels[-1], count + 2)[1:-1]
    return inner.round().astype(int).tolist()


def tile(volume: np.ndarray, levels: Sequence[int], columns: int) -> np.ndarray:
    """Axial slices side by side, as seen from above: front up, left of the brain at the left.

    Parameters
    ----------
    volume : numpy.ndarray, (x, y, z)
        As `upright` gives it.
    levels : sequence of int
        Positions along z.
    columns : int
        Slices in a row.

    Returns
    -------
    numpy.ndarray, (row, column)
        NaN where a last row is not full.
    """
    slices = [np.flipud(volume[:, :, level].T.astype(float)) for level in levels]
    blank = np.full_like(slices[0], np.nan)
    slices += [blank] * (-len(slices) % columns)
    rows = [np.hstack(slices[lo : lo + columns]) for lo in range(0, len(slices), columns)]
    return np.vstack(rows)


def mosaic(
    ax: Axes,
    values: np.ndarray,
    background: np.ndarray,
    outlines: Mapping[str, np.ndarray],
    levels: Sequence[int],
    **image_options: Any,
) -> AxesImage:
    """Draw axial slices of values over an anatomical image, with outlines of regions.

    Volumes are as `upright` gives them: left is left, and marked.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    values : numpy.ndarray, (x, y, z)
        NaN is see-through.
    background : numpy.ndarray, (x, y, z)
        Drawn in grey.
    outlines : mapping of str to numpy.ndarray, (x, y, z) bool
        Regions by name, for the legend; up to six.
    levels : sequence of int
        Positions along z.
    **image_options
        For ``imshow`` of the values, such as ``cmap`` and ``vmax``.

    Returns
    -------
    matplotlib.image.AxesImage
        Of the values, for a colour bar.
    """
    from matplotlib.lines import Line2D

    columns = -(-len(levels) // 2)
    low, high = np.nanpercentile(background, _BACKGROUND_PERCENTILES)
    ax.imshow(tile(background, levels, columns), cmap="gray", vmin=low, vmax=high)
    shown = ax.imshow(tile(values, levels, columns), interpolation="nearest", **image_options)
    colours = _OUTLINE_COLOURS[: len(outlines)]
    for colour, region in zip(colours, outlines.values(), strict=True):
        tiled = np.nan_to_num(tile(region, levels, columns))
        if tiled.any():
            ax.contour(tiled, levels=[0.5], colors=[colour], linewidths=1.4)
    handles = [Line2D([], [], color=c, label=n) for c, n in zip(colours, outlines, strict=True)]
    if handles:
        style: dict[str, Any] = {"facecolor": "0.3", "labelcolor": "w"}
        ax.legend(handles=handles, loc="lower right", fontsize="small", **style)
    for edge, side in {0.01: "L", 0.99: "R"}.items():
        ax.text(edge, 0.98, side, color="w", ha="center", va="top", transform=ax.transAxes)
    ax.set_axis_off()
    return shown


def brain(
    values: np.ndarray,
    background: np.ndarray,
    mask: np.ndarray,
    surfaces: xr.DataArray | str,
    title: str,
    **style: Any,
) -> Figure:
    """Draw values in slices over an anatomical image, and on both hemispheres of fsaverage.

    Parameters
    ----------
    values : numpy.ndarray, (x, y, z)
        NaN is see-through. Volumes are as `upright` gives them.
    background : numpy.ndarray, (x, y, z)
        Drawn in grey.
    mask : numpy.ndarray, (x, y, z) bool
        What the slices are spread over.
    surfaces : xarray.DataArray, (hemi, vertex), or str
        Values on the fsaverage that its attribute ``space`` names; or why there are none.
    title : str
        Of the colour bar.
    **style
        ``cmap``, ``vmin``, ``vmax``; those that are not provided, or None, follow the values.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib import pyplot

    # The figure is not kept by pyplot, whose backend, once loaded, lets notebooks show figures.
    pyplot.draw_if_interactive()
    style = colours(values, **style)
    figure = pyplot.Figure(figsize=(12, 8), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.7, 1])
    upper, lower = parts
    ax = upper.subplots()
    shown = mosaic(ax, values, background, {}, axial_slices(mask, _SLICES), **style)
    upper.colorbar(shown, ax=ax, label=title, shrink=0.8)
    if isinstance(surfaces, str):
        lower.text(0.5, 0.5, f"No surface view: {surfaces}", ha="center", va="center", wrap=True)
    else:
        surface_views(lower, surfaces, **style)
    return figure


def colours(
    values: np.ndarray,
    cmap: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
) -> dict[str, Any]:
    """Choose a colour map and its ends, where they are not given: 0 is in the middle, or below.

    Parameters
    ----------
    values : numpy.ndarray
        NaN counts for nothing.
    cmap, vmin, vmax
        As matplotlib takes them.

    Returns
    -------
    dict
        ``cmap``, ``vmin``, ``vmax``.
    """
    found = values[np.isfinite(values)]
    if not found.size:
        raise ValueError("There is no value to draw: all are NaN.")
    end = float(np.percentile(np.abs(found), _VALUE_PERCENTILE)) or 1.0
    both = found.min() < 0
    return {
        "cmap": cmap or ("RdBu_r" if both else "hot"),
        "vmin": (-end if both else 0.0) if vmin is None else vmin,
        "vmax": end if vmax is None else vmax,
    }


def surface_views(figure: Figure | SubFigure, values: xr.DataArray, **style: Any) -> None:
    """Draw values on fsaverage's inflated surfaces, from the side and from the middle.

    Parameters
    ----------
    figure : matplotlib.figure.Figure or SubFigure
        Where to draw, side by side.
    values : xarray.DataArray, (hemi, vertex)
        The attribute ``space`` names the fsaverage. NaN is see-through.
    **style
        ``cmap``, ``vmin``, ``vmax``.
    """
    from nilearn.plotting import plot_surf

    axes = figure.subplots(1, len(_VIEWS), subplot_kw={"projection": "3d"})
    for ax, (hemi, view) in zip(axes, _VIEWS, strict=True):
        files = {
            part: recon.fsaverage_file(values.attrs["space"], part, hemi)
            for part in ("infl", "sulc")
        }
        with warnings.catch_warnings():
            # A hemisphere without values is drawn all the same.
            warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
            plot_surf(
                files["infl"],
                values.sel({HEMI: hemi}).values,
                bg_map=files["sulc"],
                hemi=recon.SIDES[hemi],
                view=view,
                engine="matplotlib",
                colorbar=False,
                avg_method="mean",
                axes=ax,
                **style,
            )
        ax.set_title(f"{hemi} {view}")
