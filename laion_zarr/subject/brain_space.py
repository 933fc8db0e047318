"""Values of voxels where they belong: positions, volumes, NIfTI, templates, pictures."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from laion_zarr import plots, templates
from laion_zarr._release import HEMIS
from laion_zarr.arrays.labels import of_one_subject
from laion_zarr.arrays.select import labelled as as_labelled
from laion_zarr.errors import DataDirNotSetError, DataNotDownloadedError, needs
from laion_zarr.store.schema import ANATOMY_PART, DEFAULT_MASK, GRID_DIMS, HEMI, MASKS, VOXEL
from laion_zarr.subject.anatomy import MirrorAnatomy
from laion_zarr.templates.recon import BUNDLED, DENSITIES, SURFACES, Recon

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Of the voxels along a vertex's normal: fewer would paint a picture that the slices do not show.
_MOST = 0.5


class BrainSpace(MirrorAnatomy):
    """The part of `Subject` that puts values back into the brain."""

    def get_voxel_coordinates(
        self, roi: Any = None, mask: Any = None, mask_source: str = DEFAULT_MASK
    ) -> xr.DataArray:
        """Positions of the voxels in the subject's T1w space.

        Parameters
        ----------
        roi, mask, mask_source
            Voxels, as in `get_betas`.

        Returns
        -------
        xarray.DataArray, (voxel, axis) float64, mm
            ``axis`` is x, y, z.
        """
        voxels = self._query.voxels(roi, mask, mask_source, None, None)
        axis = self._query.axis(voxels)
        values = np.stack([axis[name].values for name in GRID_DIMS], axis=1)
        coords = {**axis.coords, "axis": list(GRID_DIMS)}
        # x, y and z are the values here.
        return xr.DataArray(
            values, coords=coords, dims=(VOXEL, "axis"), attrs={"units": "mm"}
        ).drop_vars(list(GRID_DIMS))

    def to_nifti(
        self,
        values: Any,
        path: str | os.PathLike[str],
        roi: Any = None,
        mask: Any = None,
        mask_source: str = DEFAULT_MASK,
    ) -> Path:
        """Write values as a NIfTI on the functional grid, 0 outside.

        Parameters
        ----------
        values : xarray.DataArray or array-like, (voxel,) or (trial, voxel)
            A DataArray (or a Series by voxel) is placed by its ``voxel`` labels, whatever their
            order; an array follows the axis that `roi`, `mask` and `mask_source` select.
        path : str or os.PathLike
            Ends in ``.nii`` or ``.nii.gz``.
        roi, mask, mask_source
            Voxels, as in `get_betas`.

        Returns
        -------
        pathlib.Path
            The file: float32, 4-D for (trial, voxel).

        Raises
        ------
        ValueError
            If `values` do not fit the voxel axis; says both lengths. If they are of another
            subject.
        """
        placed, voxels = self._placed(values, roi, mask, mask_source)
        return templates.write_nifti(placed, voxels, *self._grid, path)

    def unmask(
        self, values: Any, roi: Any = None, mask: Any = None, mask_source: str = DEFAULT_MASK
    ) -> xr.DataArray:
        """Put values into volumes of the functional grid, lazily.

        Parameters
        ----------
        values : xarray.DataArray or array-like, (voxel,) or (trial, voxel)
            As in `to_nifti`; any other first dim does as well.
        roi, mask, mask_source
            Voxels, as in `get_betas`.

        Returns
        -------
        xarray.DataArray, (x, y, z) or (trial, x, y, z) float
            Dask-backed, a few trials a block; NaN where there is no value. Labels of trials stay.
            ``i``, ``j``, ``k`` are the grid indices; ``x``, ``y``, ``z`` are mm in the T1w space,
            if the grid is not oblique. ``attrs``: ``affine``, ``space``, and those of `values`.

        Raises
        ------
        ValueError
            If `values` do not fit the voxel axis; says both lengths. If they are of another
            subject.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> sub = load_subject("01")
        >>> volume = sub.unmask(sub.get_noise_ceiling(desc="NoiseceilingAllrep"))
        >>> ceiling = volume.sel(x=40, y=-52, z=-18, method="nearest")  # mm
        """
        placed, voxels = self._placed(values, roi, mask, mask_source)
        return templates.unmask(placed, voxels, *self._grid)

    def to_template(
        self,
        values: Any,
        target: str,
        *,
        hemi: str | None = None,
        surface: str = "white",
        fsaverage_density: str = BUNDLED,
        interpolation: str = "linear",
        roi: Any = None,
        mask: Any = None,
        mask_source: str = DEFAULT_MASK,
    ) -> xr.DataArray:
        """Carry values into a template space, by the subject's FreeSurfer recon; lazily.

        Values that are missing (NaN, or no voxel there) count for nothing: the weights of the
        others make up for them, and a place is NaN where no voxel around it has a value.

        Parameters
        ----------
        values : xarray.DataArray or array-like, (voxel,) or (trial, voxel)
            As in `to_nifti`.
        target : {"fsaverage", "MNI305"}
            The surface: along the normals of the subject's own surface (ten points, 3 mm to
            either side, as `nilearn.surface.vol_to_surf` does by default), then through the
            sphere that is registered to fsaverage. Or the volume: through ``talairach.lta``.
        hemi : {"L", "R"}, optional
            One hemisphere of fsaverage. If not provided, both.
        surface : {"white", "midthickness", "pial"}
            Surface of the subject along which values are taken.
        fsaverage_density : {"fsaverage5", "fsaverage6", "fsaverage7", "fsaverage"}
            fsaverage5 (10,242 vertices a hemisphere) comes with nilearn, which downloads the
            others once: 40,962, and 163,842 for the last two, which are the same.
        interpolation : {"linear", "nearest"}
            ``"nearest"`` takes the value of the voxel that weighs most: for labels.
        roi, mask, mask_source
            Voxels, as in `get_betas`.

        Returns
        -------
        xarray.DataArray, float, Dask-backed
            For fsaverage (…, hemi, vertex), or (…, vertex) where `hemi` is given; vertices are
            fsaverage's. For MNI305 (…, x, y, z): mm, on a grid of 2 mm, axes to the right, front
            and top. ``attrs``: ``space`` and, of a volume, ``affine``.

        Raises
        ------
        DataNotDownloadedError
            If the mirror has no recon of the subject, or a denser fsaverage is out of reach.
        SourceError
            If a file of the recon is damaged, or contradicts another.
        ImportError
            Without ``pip install "laion-zarr[template]"``.

        Notes
        -----
        The recon must be of the T1w image whose space the betas are in. Its surfaces are moved
        from FreeSurfer's mm to the scanner's by the volume geometry that they carry (``c_ras``).
        Weights are made once per subject and template, then applied to blocks of trials.
        Registration to fsaverage: Fischl et al. (1999), Hum. Brain Mapp. 8, 272-284.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> sub = load_subject("01")
        >>> ceiling = sub.get_noise_ceiling(desc="NoiseceilingAllrep")
        >>> left = sub.to_template(ceiling, "fsaverage", hemi="L")
        >>> left.sizes["vertex"]
        10242
        """
        _among("target", target, templates.TARGETS)
        _among("interpolation", interpolation, templates.INTERPOLATIONS)
        _among("surface", surface, SURFACES)
        _among("fsaverage_density", fsaverage_density, DENSITIES)
        _among("hemi", hemi, (None, *HEMIS) if target == "fsaverage" else (None,))
        needs("template", "nilearn", "nitransforms", "scipy")
        placed, voxels = self._placed(values, roi, mask, mask_source)
        if target == "MNI305":
            weights = self._weights(templates.mni305_weights)
            return templates.to_mni305(placed, voxels, weights, interpolation)
        hemis = HEMIS if hemi is None else (hemi,)
        ways = {
            one: self._weights(templates.surface_weights, one, surface, fsaverage_density)
            for one in hemis
        }
        carried = templates.to_fsaverage(placed, voxels, ways, interpolation, fsaverage_density)
        return carried if hemi is None else carried.isel({HEMI: 0})

    def plot_voxels(
        self,
        values: Any,
        roi: Any = None,
        mask: Any = None,
        mask_source: str = DEFAULT_MASK,
        *,
        cmap: str | None = None,
        vmin: float | None = None,
        vmax: float | None = None,
    ) -> Figure:
        """Draw values: axial slices over the T1w image, and on fsaverage's inflated surface.

        Parameters
        ----------
        values : xarray.DataArray or array-like, (voxel,)
            As in `to_nifti`. NaN is not drawn, nor is False: ``values.where(values > 20)`` leaves
            the rest of the brain to be seen.
        roi, mask, mask_source
            Voxels, as in `get_betas`.
        cmap, vmin, vmax
            Colour map of matplotlib and the values at its ends. If not provided, from 0 (or, if
            there are negative values, to either side of it) to the 98th percentile.

        Returns
        -------
        matplotlib.figure.Figure
            Shown by notebooks; ``.savefig("brain.png")`` elsewhere. Where there is no surface
            view, for lack of a recon or of ``laion-zarr[template]``, it says why.

        Raises
        ------
        ImportError
            Without ``pip install "laion-zarr[plot]"``.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> sub = load_subject("01")
        >>> figure = sub.plot_voxels(sub.get_noise_ceiling(desc="NoiseceilingAllrep"))
        """
        needs("plot", "matplotlib")
        placed, voxels = self._placed(values, roi, mask, mask_source)
        if placed.ndim != 1:
            raise ValueError(
                f"plot_voxels draws one value per voxel, got {dict(placed.sizes)}: take one, or a "
                'mean, as in values.mean("trial").'
            )
        if placed.dtype == bool:
            cmap = cmap or "autumn"
            placed = placed.astype(np.float32).where(placed)
        known = self._query.lazy[VOXEL].values
        # On all voxels: what is NaN counts as brain without a value.
        drawn = placed.compute().assign_coords({VOXEL: voxels})
        drawn = drawn.reindex({VOXEL: np.union1d(known, voxels)})
        name, units = drawn.name or "value", drawn.attrs.get("units")
        background, brain = self._background()
        return plots.brain(
            self._upright(self.unmask(drawn).values),
            self._upright(background),
            self._upright(brain),
            self._on_surface(drawn),
            f"{self.subject_id}: {str(name).replace('_', ' ')}" + (f" ({units})" if units else ""),
            cmap=cmap,
            vmin=vmin,
            vmax=vmax,
        )

    def _upright(self, volume: np.ndarray) -> np.ndarray:
        return plots.upright(volume, self._grid[1])

    def _background(self) -> tuple[np.ndarray, np.ndarray]:
        """T1w image, or without one the mask; and the mask of the brain, (x, y, z)."""
        axis, stored = self._query.lazy, self._handle.stored
        inside = f"in_{DEFAULT_MASK}"
        held = axis[inside].values if inside in axis.coords else slice(None)
        mask = np.zeros(self._grid[0], dtype=bool)
        mask.reshape(-1)[axis[VOXEL].values[held]] = True
        found = stored.load(ANATOMY_PART, ["t1w"]) if ANATOMY_PART in stored.parts else {}
        return found.get("t1w", mask.astype(np.float32)), mask

    def _on_surface(self, values: xr.DataArray) -> xr.DataArray | str:
        """Values on fsaverage where most of what is near has one; or why that cannot be."""
        try:
            shown = self.to_template(values, "fsaverage")
            return shown.where(self.to_template(values.notnull(), "fsaverage") >= _MOST)
        except (DataDirNotSetError, DataNotDownloadedError, ImportError) as error:
            return str(error)

    # -- what they share

    def _placed(
        self, values: Any, roi: Any, mask: Any, mask_source: str
    ) -> tuple[xr.DataArray, np.ndarray]:
        """Values, and the flat index on the functional grid of each."""
        values = as_labelled(values)
        labelled = isinstance(values, xr.DataArray) and VOXEL in values.coords
        if labelled:
            of_one_subject(values.attrs, self._query.lazy.attrs)
            axis = self._query.lazy[[VOXEL]]
        else:
            axis = self._query.axis(self._query.voxels(roi, mask, mask_source, None, None))
        which = f"mask_source={mask_source!r}"
        which += "" if roi is None else f", roi={roi!r}"
        which += "" if mask is None else ", mask=…"
        for name in [name for name in MASKS if f"in_{name}" in self._query.lazy.coords]:
            which += f"; {name} has {int(self._query.lazy[f'in_{name}'].sum()):,}"
        return templates.place(values, axis, int(np.prod(self._grid[0])), which)

    @cached_property
    def _made_weights(self) -> dict[tuple[str, ...], Any]:
        return {}

    def _weights(self, make: Callable[..., Any], *how: str) -> Any:
        """Weights to a template, from all of the grid; made once."""
        what = (make.__name__, *how)
        if what not in self._made_weights:
            recon = Recon(self.subject_id, self._in_mirror)
            self._made_weights[what] = make(recon, self._grid, *how)
        return self._made_weights[what]


def _among(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {list(allowed)}, got {value!r}.")
