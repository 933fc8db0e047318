"""Voxel values in space: coordinates, volumes, NIfTI files, template spaces, figures."""

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


# Share (by weight) of the voxels along a vertex's normal that must have a value for the vertex to
# be drawn. With a smaller share the surface would show values where the slices show none.
_MOST = 0.5


class BrainSpace(MirrorAnatomy):
    """Methods of `Subject` that map voxel values into volumes, surfaces and template spaces."""

    def get_voxel_coordinates(
        self, roi: Any = None, mask: Any = None, mask_source: str = DEFAULT_MASK
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
        mask_source: str = DEFAULT_MASK,
    ) -> Path:
        """Write values as a NIfTI file on the functional grid, 0 in voxels that `values` lacks.

        Parameters
        ----------
        values : xarray.DataArray or array-like, (voxel,) or (trial, voxel)
            A DataArray (or a Series by voxel) is placed by its ``voxel`` labels, in any order; an
            array without labels follows the voxel axis that `roi`, `mask` and `mask_source` select.
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
            If `values` do not fit the voxel axis (the message gives both lengths), or belong to
            another subject.
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
            As in `to_nifti`; the first dim may have another name than ``trial``.
        roi, mask, mask_source
            Selection of voxels, as in `get_betas`.

        Returns
        -------
        xarray.DataArray, (x, y, z) or (trial, x, y, z) float
            Dask-backed, a few trials per block; NaN in voxels without a value. Labels of trials are
            kept. ``i``, ``j``, ``k`` are the grid indices; ``x``, ``y``, ``z`` are mm in the T1w
            space, if the grid is not oblique. ``attrs``: ``affine``, ``space``, and the attributes
            of `values`.

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
        """Resample values into a template space, with the subject's FreeSurfer recon; lazily.

        Missing values (NaN, or no voxel at that position) are left out and the weights of the other
        voxels are normalized to sum to 1; a vertex or voxel of the template is NaN if no voxel near
        it has a value.

        Parameters
        ----------
        values : xarray.DataArray or array-like, (voxel,) or (trial, voxel)
            As in `to_nifti`.
        target : {"fsaverage", "MNI305"}
            ``"fsaverage"``: values are sampled along the normals of the subject's own surface (ten
            points, 3 mm to either side, the default of `nilearn.surface.vol_to_surf`), then
            resampled on the sphere that is registered to fsaverage. ``"MNI305"``: volumes are
            resampled with the transform ``talairach.lta``.
        hemi : {"L", "R"}, optional
            One hemisphere of fsaverage. If not provided, both.
        surface : {"white", "midthickness", "pial"}
            Surface of the subject along whose normals values are sampled.
        fsaverage_density : {"fsaverage5", "fsaverage6", "fsaverage7", "fsaverage"}
            fsaverage5 (10,242 vertices per hemisphere) comes with nilearn, which downloads the
            other densities once: fsaverage6 (40,962), and fsaverage7 or fsaverage (163,842), two
            names of the same surface.
        interpolation : {"linear", "nearest"}
            ``"nearest"`` takes the value of the voxel with the largest weight: for integer labels.
        roi, mask, mask_source
            Selection of voxels, as in `get_betas`.

        Returns
        -------
        xarray.DataArray, float, Dask-backed
            For fsaverage (…, hemi, vertex), or (…, vertex) if `hemi` is given; vertices are
            fsaverage's. For MNI305 (…, x, y, z): mm, on a grid of 2 mm, axes to the right, front
            and top (RAS). ``attrs``: ``space`` and, for a volume, ``affine``.

        Raises
        ------
        DataNotDownloadedError
            If the mirror has no recon of the subject, or nilearn cannot download a denser
            fsaverage.
        SourceError
            If a file of the recon is damaged, or contradicts another file.
        ImportError
            If the extra is not installed: ``pip install "laion-zarr[template]"``.

        Notes
        -----
        The recon must be made from the T1w image whose space the betas are in. Its surfaces are
        moved from FreeSurfer's surface coordinates to scanner coordinates (both in mm) by the
        volume geometry stored in the surface files (``c_ras``). Weights are computed once per
        subject and template, then applied to blocks of trials.
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
        """Draw values on axial slices of the T1w image and on fsaverage's inflated surface.

        Parameters
        ----------
        values : xarray.DataArray or array-like, (voxel,)
            As in `to_nifti`. NaN and False are not drawn: with ``values.where(values > 20)`` the
            T1w image stays visible in all other voxels.
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
            be drawn because the recon or ``laion-zarr[template]`` is missing, the figure shows the
            reason instead.

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
        # Extended to all voxels of the subject: NaN means a voxel of the brain without a value.
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
        """T1w image (or the brain mask if the store has none) and brain mask, both (x, y, z)."""
        axis, stored = self._query.lazy, self._handle.stored
        inside = f"in_{DEFAULT_MASK}"
        held = axis[inside].values if inside in axis.coords else slice(None)
        mask = np.zeros(self._grid[0], dtype=bool)
        mask.reshape(-1)[axis[VOXEL].values[held]] = True
        found = stored.load(ANATOMY_PART, ["t1w"]) if ANATOMY_PART in stored.parts else {}
        return found.get("t1w", mask.astype(np.float32)), mask

    def _on_surface(self, values: xr.DataArray) -> xr.DataArray | str:
        """Values on fsaverage, NaN where few voxels nearby have values; or the reason for none."""
        try:
            shown = self.to_template(values, "fsaverage")
            return shown.where(self.to_template(values.notnull(), "fsaverage") >= _MOST)
        except (DataDirNotSetError, DataNotDownloadedError, ImportError) as error:
            return str(error)

    # -- shared by the methods above

    def _placed(
        self, values: Any, roi: Any, mask: Any, mask_source: str
    ) -> tuple[xr.DataArray, np.ndarray]:
        """Values, and the flat C index on the functional grid of each voxel."""
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
        """Weights from all voxels of the functional grid to a template; computed once."""
        what = (make.__name__, *how)
        if what not in self._made_weights:
            recon = Recon(self.subject_id, self._in_mirror)
            self._made_weights[what] = make(recon, self._grid, *how)
        return self._made_weights[what]


def _among(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {list(allowed)}, got {value!r}.")
