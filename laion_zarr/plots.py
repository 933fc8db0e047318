"""Plots of values in the brain; needs matplotlib (``pip install laion-zarr[plot]``)."""

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

# Range of the grey background: without the tails, a few bright voxels would darken all others.
_BACKGROUND_PERCENTILES = (1, 99.5)
_SLICES = 12  # axial slices of a figure
# Percentile of the absolute values at which the colour scale ends; larger values are clipped.
_VALUE_PERCENTILE = 98
_VIEWS = (("L", "lateral"), ("L", "medial"), ("R", "medial"), ("R", "lateral"))
# Colours that are distinct from each other on grey and on warm colour maps.
_OUTLINE_COLOURS = ("cyan", "lime", "white", "magenta", "dodgerblue", "greenyellow")


def upright(volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Reorient a volume so that its axes point to the right, front and top.

    Parameters
    ----------
    volume : numpy.ndarray, (i, j, k)
    affine : numpy.ndarray, (4, 4)
        From voxel indices to mm.

    Returns
    -------
    numpy.ndarray, (x, y, z)
    """
    from nibabel.orientations import apply_orientation, io_orientation

    return apply_orientation(volume, io_orientation(affine))


def axial_slices(mask: np.ndarray, count: int) -> list[int]:
    """Positions along z of axial slices, spread evenly over the extent of a mask.

    Parameters
    ----------
    mask : numpy.ndarray, (x, y, z) bool
    count : int
        Number of slices.

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
        Volume as `upright` returns it.
    levels : sequence of int
        Positions of the slices along z.
    columns : int
        Number of slices per row.

    Returns
    -------
    numpy.ndarray, (row, column)
        One image; NaN where the last row has fewer slices than `columns`.
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

    Volumes are as `upright` returns them: left is left, and the sides are marked.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Axes to draw on.
    values : numpy.ndarray, (x, y, z)
        Values to draw; NaN is transparent.
    background : numpy.ndarray, (x, y, z)
        Drawn in grey.
    outlines : mapping of str to numpy.ndarray, (x, y, z) bool
        Regions by name, for the legend; up to six.
    levels : sequence of int
        Positions of the slices along z.
    **image_options
        Arguments of ``imshow`` for the values, such as ``cmap`` and ``vmax``.

    Returns
    -------
    matplotlib.image.AxesImage
        Image of the values, for a colour bar.
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
        Values to draw; NaN is transparent. Volumes are as `upright` returns them.
    background : numpy.ndarray, (x, y, z)
        Drawn in grey.
    mask : numpy.ndarray, (x, y, z) bool
        Region over which the slices are spread.
    surfaces : xarray.DataArray, (hemi, vertex), or str
        Values on the fsaverage mesh that their attribute ``space`` names; or a text that says why
        there are none.
    title : str
        Label of the colour bar.
    **style
        ``cmap``, ``vmin``, ``vmax``; any that is missing or None is chosen from the values.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib import pyplot

    # Load pyplot's backend, which lets notebooks show figures; pyplot does not keep this figure.
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


def surfaces(values: xr.DataArray, title: str, **style: Any) -> Figure:
    """Draw values on both hemispheres of fsaverage, with a colour bar.

    Parameters
    ----------
    values : xarray.DataArray, (hemi, vertex)
        Values on the fsaverage mesh that their attribute ``space`` names; NaN is transparent.
    title : str
        Label of the colour bar.
    **style
        As in `brain`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib import pyplot
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    pyplot.draw_if_interactive()
    style = colours(values.values, **style)
    figure = pyplot.Figure(figsize=(12, 3.6), layout="constrained")
    surface_views(figure, values, **style)
    scale = ScalarMappable(Normalize(style["vmin"], style["vmax"]), style["cmap"])
    figure.colorbar(scale, ax=figure.axes, label=title, shrink=0.8)
    return figure


def colours(
    values: np.ndarray,
    cmap: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
) -> dict[str, Any]:
    """Choose a colour map and limits that are not given: 0 is the centre, or the lower limit.

    Parameters
    ----------
    values : numpy.ndarray
        Values to draw; NaN and infinite values are ignored.
    cmap, vmin, vmax
        Arguments of matplotlib; None to choose from the values.

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
    """Draw values on the inflated surfaces of fsaverage, in lateral and medial views.

    Parameters
    ----------
    figure : matplotlib.figure.Figure or SubFigure
        Figure to draw on; the views are side by side.
    values : xarray.DataArray, (hemi, vertex)
        The attribute ``space`` names the fsaverage mesh. NaN is transparent.
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
            # A hemisphere without values is drawn, too, without the warning about NaN.
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
