"""Pictures of values in the brain; needs matplotlib (``pip install laion-zarr[plot]``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

# Cut off the tails, so that a few bright voxels do not darken the rest.
_BACKGROUND_PERCENTILES = (1, 99.5)
# Told apart on grey and on warm colour maps alike.
_OUTLINE_COLOURS = ("cyan", "lime", "white", "magenta", "dodgerblue", "greenyellow")


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
    """Axial slices side by side, as seen from above: front up, first axis to the right.

    Parameters
    ----------
    volume : numpy.ndarray, (x, y, z)
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
    *,
    sides: tuple[str, str],
    **image_options: Any,
) -> AxesImage:
    """Draw axial slices of values over an anatomical image, with outlines of regions.

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
    sides : tuple of str
        What lies at the left and at the right edge of a slice, such as ``("R", "L")``.
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
    ax.legend(handles=handles, loc="lower right", fontsize="small", facecolor="0.3", labelcolor="w")
    for edge, side in zip((0.01, 0.99), sides, strict=True):
        ax.text(edge, 0.98, side, color="w", ha="center", va="top", transform=ax.transAxes)
    ax.set_axis_off()
    return shown
