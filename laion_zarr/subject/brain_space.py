"""Voxel values in space: coordinates, volumes, NIfTI files, figures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from laion_zarr import plots, templates
from laion_zarr._release import HEMIS
from laion_zarr._words import MaskSource
from laion_zarr.errors import DataNotDownloadedError, needs
from laion_zarr.explorer import explore
from laion_zarr.store.schema import ANATOMY_PART, DEFAULT_MASK, GRID_DIMS, HEMI, VOXEL
from laion_zarr.subject.template_space import TemplateSpace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from laion_zarr.explorer.widget import ExplorerWidget


# Share (by weight) of the voxels along a vertex's normal, or of the vertices around it, that must
# have a value for the vertex to be drawn. With a smaller share the surface would show values where
# the slices show none.
_MOST = 0.5


class BrainSpace(TemplateSpace):
    """Methods of `Subject` that map voxel values into volumes, files and figures."""

    def get_voxel_coordinates(
        self, roi: Any = None, mask: Any = None, mask_source: MaskSource = DEFAULT_MASK
    ) -> xr.DataArray:
        """Positions of the voxels in the subject's T1w space.

        Parameters
        ----------
        roi, mask, mask_source
            Selection of voxels, as in `get_betas`.

        Returns
        -------
        xarray.DataArray, (voxel, axis) float64, mm
            ``axis`` is x, y, z.
        """
        voxels = self._query.voxels(roi, mask, mask_source, None, None)
        axis = self._query.axis(voxels)
        values = np.stack([axis[name].values for name in GRID_DIMS], axis=1)
        coords = {**axis.coords, "axis": list(GRID_DIMS)}
        # x, y and z are the values of the result, not coordinates along voxels.
        return xr.DataArray(
            values, coords=coords, dims=(VOXEL, "axis"), attrs={"units": "mm"}
        ).drop_vars(list(GRID_DIMS))

    def to_nifti(
        self,
        values: Any,
        path: str | os.PathLike[str],
        roi: Any = None,
        mask: Any = None,
        mask_source: MaskSource = DEFAULT_MASK,
    ) -> Path:
        """Write values as a NIfTI file on the functional grid, 0 in voxels that `values` lacks.

        A volume, such as those of `get_localizer_volume`, is written on its own grid, as it is.

        Parameters
        ----------
        values : xarray.DataArray or array-like, (voxel,) or (trial, voxel)
            A DataArray (or a Series by voxel) is placed by its ``voxel`` labels, in any order; an
            array without labels follows the voxel axis that `roi`, `mask` and `mask_source` select.
            A DataArray with the dims x, y and z is on the grid of its ``attrs["affine"]``; it has
            a value for each voxel, and its NaN stay NaN.
        path : str or os.PathLike
            Path of the file to write; ends in ``.nii`` or ``.nii.gz``.
        roi, mask, mask_source
            Selection of voxels, as in `get_betas`.

        Returns
        -------
        pathlib.Path
            Path of the written file: float32, 4-D for (trial, voxel).

        Raises
        ------
        ValueError
            If `values` do not fit the voxel axis (the message gives both lengths), belong to
            another subject, or are a volume without an affine.
        """
        if templates.is_volume(values):
            self._check_volume(values, roi, mask)
            return templates.write_volumes(values, path)
        placed, voxels, grid = self._placed(values, roi, mask, mask_source)
        return templates.write_nifti(placed, voxels, *grid, path)

    def unmask(
        self, values: Any, roi: Any = None, mask: Any = None, mask_source: MaskSource = DEFAULT_MASK
    ) -> xr.DataArray:
        """Put values into volumes of the functional grid, lazily.

        Parameters
        ----------
        values : xarray.DataArray or array-like, (voxel,) or (trial, voxel)
            As in `to_nifti`; the first dim may have another name than ``trial``.
        roi, mask, mask_source
            Selection of voxels, as in `get_betas`.

        Returns
        -------
        xarray.DataArray, (x, y, z) or (trial, x, y, z) float
            Dask-backed, a few trials per block; NaN in voxels without a value. Labels of trials are
            kept. ``i``, ``j``, ``k`` are the grid indices; ``x``, ``y``, ``z`` are mm in the T1w
            space, if the grid is not oblique. ``attrs``: ``affine`` (the 4 × 4 matrix as 16
            numbers), ``space``, and the attributes of `values`.

        Raises
        ------
        ValueError
            If `values` do not fit the voxel axis (the message gives both lengths), or belong to
            another subject.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> sub = load_subject("01")
        >>> volume = sub.unmask(sub.get_noise_ceiling(desc="NoiseceilingAllrep"))
        >>> ceiling = volume.sel(x=40, y=-52, z=-18, method="nearest")  # mm
        """
        placed, voxels, grid = self._placed(values, roi, mask, mask_source)
        return templates.unmask(placed, voxels, *grid)

    def plot_voxels(
        self,
        values: Any,
        roi: Any = None,
        mask: Any = None,
        mask_source: MaskSource = DEFAULT_MASK,
        *,
        cmap: str | None = None,
        vmin: float | None = None,
        vmax: float | None = None,
    ) -> Figure:
        """Draw values on axial slices of the T1w image and on fsaverage's inflated surface.

        Parameters
        ----------
        values : xarray.DataArray or array-like, (voxel,)
            As in `to_nifti`; a volume must be on the grid of the betas. NaN and False are not
            drawn: with ``values.where(values > 20)`` the T1w image stays visible in all other
            voxels. Or values on the subject's own surface, (vertex,), as in `surface_to_template`:
            then only surfaces are drawn.
        roi, mask, mask_source
            Selection of voxels, as in `get_betas`.
        cmap, vmin, vmax
            Colour map of matplotlib and the values at its ends. If not provided, the range is 0 to
            the 98th percentile of the absolute values, or symmetric around 0 if there are negative
            values.

        Returns
        -------
        matplotlib.figure.Figure
            Displayed by notebooks; in scripts use ``.savefig("brain.png")``. If the surface cannot
            be drawn beside slices because the recon or ``laion-zarr[template]`` is missing, the
            figure shows the reason instead.

        Raises
        ------
        ImportError
            If the extra is not installed: ``pip install "laion-zarr[plot]"``.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> sub = load_subject("01")
        >>> figure = sub.plot_voxels(sub.get_noise_ceiling(desc="NoiseceilingAllrep"))
        """
        needs("plot", "matplotlib")
        style = {"cmap": cmap, "vmin": vmin, "vmax": vmax}
        if templates.is_on_surface(values):
            return self._plot_surface(values, **style)
        placed, voxels, grid = self._placed(values, roi, mask, mask_source)
        (placed,) = _one_value([placed], style)
        known = self._query.lazy[VOXEL].values
        if templates.is_volume(values):
            self._on_own_grid(grid)
            placed, voxels = placed.sel({VOXEL: known}), known
        # Extended to all voxels of the subject: NaN means a voxel of the brain without a value.
        drawn = placed.compute().assign_coords({VOXEL: voxels})
        drawn = drawn.reindex({VOXEL: np.union1d(known, voxels)})
        background, brain = self._background()
        return plots.brain(
            self._upright(self.unmask(drawn).values),
            self._upright(background),
            self._upright(brain),
            self._on_surface(drawn),
            self._title(drawn),
            **style,
        )

    def _on_own_grid(self, grid: templates.Grid) -> None:
        """Raise ValueError if a grid is not that of the betas, on which slices are drawn."""
        own = self._grid
        if grid[0] != own[0] or not np.allclose(grid[1], own[1]):
            raise ValueError(
                f"values are a volume of {grid[0]} voxels, and the slices are of the betas' grid, "
                f"{own[0]}. Take such a map by voxel of the betas (get_localizer, get_roi_mask, or "
                "res='1pt8'), or draw what to_template makes of it."
            )

    def _plot_surface(self, values: Any, **style: Any) -> Figure:
        maps = templates.by_hemi(values, None)
        shown = dict(zip(maps, _one_value(list(maps.values()), style), strict=True))
        drawn = self._mostly(shown).reindex({HEMI: list(HEMIS)})
        return plots.surfaces(drawn, self._title(next(iter(maps.values()))), **style)

    def _title(self, values: xr.DataArray) -> str:
        name, units = str(values.name or "value").replace("_", " "), values.attrs.get("units")
        return f"{self.subject_id}: {name}" + (f" ({units})" if units else "")

    def _upright(self, volume: np.ndarray) -> np.ndarray:
        return plots.upright(volume, self._grid[1])

    def _background(self) -> tuple[np.ndarray, np.ndarray]:
        """T1w image (or the brain mask if the store has none) and brain mask, both (x, y, z)."""
        axis, stored = self._query.lazy, self._handle.stored
        inside = f"in_{DEFAULT_MASK}"
        held = axis[inside].values if inside in axis.coords else slice(None)
        mask = np.zeros(self._grid[0], dtype=bool)
        mask.reshape(-1)[axis[VOXEL].values[held]] = True
        found = stored.load(ANATOMY_PART, ["t1w"]) if ANATOMY_PART in stored.parts else {}
        return found.get("t1w", mask.astype(np.float32)), mask

    def _on_surface(self, values: xr.DataArray) -> xr.DataArray | str:
        """Values on fsaverage; or the reason why there are none."""
        try:
            return self._mostly(values)
        except (DataNotDownloadedError, ImportError) as error:
            return str(error)

    def explore(self) -> ExplorerWidget:
        """Look at this subject in a notebook: brain, voxels and regions, pictures.

        Returns
        -------
        laion_zarr.explorer.widget.ExplorerWidget
            As `laion_zarr.explorer.explore` returns it: ``voxel``, ``picture`` and ``overlay`` are
            in step with what is shown.

        Raises
        ------
        ImportError
            If anywidget is not installed: ``pip install "laion-zarr[explore]"``.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> sub = load_subject("01")
        >>> widget = sub.explore()  # doctest: +SKIP
        >>> widget.overlay = sub.get_noise_ceiling(session="ses-01")  # doctest: +SKIP
        """
        return explore(self._handle.stored.store, self.subject_id)

    def _mostly(self, values: Any) -> xr.DataArray:
        """Values on fsaverage, NaN where few voxels or vertices nearby have values."""
        there: Any
        if isinstance(values, Mapping):
            there = {hemi: its.notnull() for hemi, its in values.items()}
        else:
            there = values.notnull()
        shown = self.to_template(values, "fsaverage")
        return shown.where(self.to_template(there, "fsaverage") >= _MOST)


def _one_value(maps: list[xr.DataArray], style: dict[str, Any]) -> list[xr.DataArray]:
    """Maps to draw, with NaN where a mask is False; sets the colours of masks."""
    for values in maps:
        if values.ndim != 1:
            raise ValueError(
                f"plot_voxels draws one value per voxel or vertex, got {dict(values.sizes)}: take "
                'one, or a mean, as in values.mean("trial").'
            )
    if all(values.dtype == bool for values in maps):
        style["cmap"] = style["cmap"] or "autumn"
        return [values.astype(np.float32).where(values) for values in maps]
    return maps
