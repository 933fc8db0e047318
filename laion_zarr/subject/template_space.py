"""Values of a subject in template spaces: fsaverage and MNI305."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Literal

import numpy as np
import xarray as xr

from laion_zarr import templates
from laion_zarr._release import HEMIS, Id
from laion_zarr._words import Hemi, Interpolation, MaskSource, Template
from laion_zarr.arrays.labels import of_one_subject
from laion_zarr.arrays.select import labelled as as_labelled
from laion_zarr.errors import needs
from laion_zarr.store.schema import DEFAULT_MASK, HEMI, MASKS, SUBJECT, VOXEL
from laion_zarr.subject.anatomy import Anatomy
from laion_zarr.subject.base import among
from laion_zarr.templates.recon import BUNDLED, DENSITIES, SURFACES


class TemplateSpace(Anatomy):
    """Methods of `Subject` that map values of voxels and vertices to template spaces."""

    def to_template(
        self,
        values: Any,
        target: Template,
        *,
        hemi: Hemi | None = None,
        surface: str = "white",
        fsaverage_density: str = BUNDLED,
        interpolation: Interpolation = "linear",
        output_dir: str | os.PathLike[str] | None = None,
        desc: str | None = None,
        session: Id | None = None,
        roi: Any = None,
        mask: Any = None,
        mask_source: MaskSource = DEFAULT_MASK,
    ) -> xr.DataArray:
        """Resample values into a template space, with the subject's FreeSurfer recon; lazily.

        Missing values (NaN, or no voxel at that position) are left out and the weights of the other
        voxels are normalized to sum to 1; a vertex or voxel of the template is NaN if no voxel near
        it has a value.

        Parameters
        ----------
        values : xarray.DataArray or array-like, (voxel,) or (trial, voxel)
            As in `to_nifti`, volumes of any resolution among them (`get_localizer_volume`,
            `get_roi_volume`); or values on the subject's own surface, as in `surface_to_template`.
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
        output_dir : str or os.PathLike, optional
            Folder to write the result to, which is made if needed: float32, NaN as in the result,
            ``sub-01_ses-01_space-fsaverage_den-10k_hemi-L_desc-Mean_statmap.func.gii`` (one array
            per trial) or ``sub-01_ses-01_space-MNI305_desc-Mean_statmap.nii.gz`` (4-D for trials).
            The result is returned all the same; if it is lazy, computing it computes again.
        desc : str, optional
            What the names of these files say after ``desc-``.
        session : str or int, optional
            What they say after ``ses-``: ``"ses-01"``, ``"01"`` or 1.
        roi, mask, mask_source
            Selection of voxels, as in `get_betas`.

        Returns
        -------
        xarray.DataArray, float, Dask-backed
            For fsaverage (…, hemi, vertex), or (…, vertex) if `hemi` is given; vertices are
            fsaverage's. For MNI305 (…, x, y, z): mm, on a grid of 2 mm, axes to the right, front
            and top (RAS). ``attrs``: ``space`` and, for a volume, ``affine``, the 16 numbers of the
            4 × 4 matrix, row by row.

        Raises
        ------
        NotConvertedError
            If neither the store nor the local mirror has the recon of the subject.
        DataNotDownloadedError
            If nilearn cannot download a denser fsaverage.
        ImportError
            If the extra is not installed: ``pip install "laion-zarr[template]"``.

        Notes
        -----
        The recon must be made from the T1w image whose space the betas are in. It is read from the
        store; of a store without it, from the local mirror. Its surfaces are moved from
        FreeSurfer's surface coordinates to scanner coordinates (both in mm) by the volume geometry
        stored in the surface files (``c_ras``). Weights are computed once per subject and
        template, then applied to blocks of trials.
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
        among("target", target, templates.TARGETS)
        if templates.is_on_surface(values):
            if target != "fsaverage" or roi is not None or mask is not None:
                raise ValueError(
                    "Values on the surface reach fsaverage alone, without roi= and mask=; got "
                    f"target={target!r}."
                )
            return self.surface_to_template(
                values,
                hemi=hemi,
                fsaverage_density=fsaverage_density,
                interpolation=interpolation,
                output_dir=output_dir,
                desc=desc,
                session=session,
            )
        among("interpolation", interpolation, templates.INTERPOLATIONS)
        among("surface", surface, SURFACES)
        among("fsaverage_density", fsaverage_density, tuple(DENSITIES))
        among("hemi", hemi, (None, *HEMIS) if target == "fsaverage" else (None,))
        needs("template", "nilearn", "scipy")
        placed, voxels, grid = self._placed(values, roi, mask, mask_source)
        if target == "MNI305":
            weights = self._weights(templates.mni305_weights, grid=grid)
            carried = templates.to_mni305(placed, voxels, weights, interpolation)
        else:
            make = templates.surface_weights
            ways = {
                one: self._weights(make, one, surface, fsaverage_density, grid=grid)
                for one in (HEMIS if hemi is None else (hemi,))
            }
            carried = templates.to_fsaverage(placed, voxels, ways, interpolation, fsaverage_density)
            carried = carried if hemi is None else carried.isel({HEMI: 0})
        return self._written(carried, output_dir, session, desc)

    def volume_to_surface(
        self, values: Any, target: Literal["fsaverage"] = "fsaverage", **options: Any
    ) -> xr.DataArray:
        """Resample values of voxels to fsaverage: `to_template` for surfaces alone.

        Parameters
        ----------
        values : xarray.DataArray or array-like, (voxel,) or (trial, voxel)
            As in `to_nifti`.
        target : {"fsaverage"}
            Surface.
        **options
            As in `to_template`: ``hemi``, ``surface``, ``output_dir``, …

        Returns
        -------
        xarray.DataArray, (…, hemi, vertex) or (…, vertex) float, Dask-backed
        """
        among("target", target, ("fsaverage",))
        return self._of_voxels(values, target, options)

    def volume_to_template(
        self, values: Any, target: Literal["MNI305"], **options: Any
    ) -> xr.DataArray:
        """Resample values of voxels to a volume: `to_template` for volumes alone.

        Parameters
        ----------
        values : xarray.DataArray or array-like, (voxel,) or (trial, voxel)
            As in `to_nifti`.
        target : {"MNI305"}
            Space of the volume.
        **options
            As in `to_template`: ``interpolation``, ``output_dir``, …

        Returns
        -------
        xarray.DataArray, (…, x, y, z) float, Dask-backed
        """
        among("target", target, ("MNI305",))
        return self._of_voxels(values, target, options)

    def surface_to_template(
        self,
        values: Any,
        target: Literal["fsaverage"] = "fsaverage",
        *,
        hemi: Hemi | None = None,
        fsaverage_density: str = BUNDLED,
        interpolation: Interpolation = "linear",
        output_dir: str | os.PathLike[str] | None = None,
        desc: str | None = None,
        session: Id | None = None,
    ) -> xr.DataArray:
        """Resample values on the subject's own surface (fsnative) to fsaverage; lazily.

        Parameters
        ----------
        values : xarray.DataArray, array-like or mapping, (vertex,) or (trial, vertex)
            One value per vertex of a hemisphere; or both hemispheres, by ``"L"`` and ``"R"``, or
            as `get_roi_data` has them. Masks become shares of 0 to 1. NaN is left out, as in
            `to_template`.
        target : {"fsaverage"}
            Surface.
        hemi : {"L", "R"}, optional
            Hemisphere of the values, if their coordinate ``hemi`` does not say it; of a mapping,
            the one to take.
        fsaverage_density, interpolation, output_dir, desc, session
            As in `to_template`.

        Returns
        -------
        xarray.DataArray, float, Dask-backed
            (…, hemi, vertex) for a mapping, else (…, vertex); vertices are fsaverage's.

        Raises
        ------
        ValueError
            If the number of values is not that of the vertices (the message gives both), or the
            hemisphere is not known.
        NotConvertedError
            If neither the store nor the local mirror has the recon of the subject.
        ImportError
            If the extra is not installed: ``pip install "laion-zarr[template]"``.

        Notes
        -----
        Barycentric weights on the registered sphere, as `nitransforms.surface.SurfaceResampler`.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> sub = load_subject("01")
        >>> share = sub.surface_to_template(sub.get_roi_data("FFA1", "func.gii")["FFA1"]["gii"])
        >>> share.dims
        ('hemi', 'vertex')
        """
        among("target", target, ("fsaverage",))
        among("interpolation", interpolation, templates.INTERPOLATIONS)
        among("fsaverage_density", fsaverage_density, tuple(DENSITIES))
        among("hemi", hemi, (None, *HEMIS))
        needs("template", "nilearn", "scipy")
        maps = templates.by_hemi(values, hemi)
        for its in maps.values():
            of_one_subject(its.attrs, {SUBJECT: self.subject_id})
        weights = {
            one: self._weights(templates.sphere_weights, one, fsaverage_density) for one in maps
        }
        carried = templates.surface_to_fsaverage(maps, weights, interpolation, fsaverage_density)
        if hemi is not None or not isinstance(values, Mapping):
            carried = carried.isel({HEMI: 0})
        return self._written(carried, output_dir, session, desc)

    def _of_voxels(self, values: Any, target: Template, options: Mapping[str, Any]) -> xr.DataArray:
        if templates.is_on_surface(values):
            raise ValueError("values are on the surface: surface_to_template takes them.")
        return self.to_template(values, target, **options)

    def _written(
        self,
        carried: xr.DataArray,
        output_dir: str | os.PathLike[str] | None,
        session: Id | None,
        desc: str | None,
    ) -> xr.DataArray:
        if output_dir is not None:
            templates.write_maps(carried, output_dir, self.subject_id, session, desc)
        return carried

    # -- shared by the methods above

    def _placed(
        self, values: Any, roi: Any, mask: Any, mask_source: str
    ) -> tuple[xr.DataArray, np.ndarray, templates.Grid]:
        """Values, and the flat C index of each voxel on their grid: the functional one, or theirs.

        Volumes, such as those of `get_localizer_volume`, bring their own grid.
        """
        values, grid = as_labelled(values), self._grid
        if templates.is_volume(values):
            self._check_volume(values, roi, mask)
            values, grid = templates.along_voxels(values)
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
        return *templates.place(values, axis, int(np.prod(grid[0])), which), grid

    def _check_volume(self, values: xr.DataArray, roi: Any, mask: Any) -> None:
        """Raise ValueError if volumes are another subject's, or a selection of voxels is asked."""
        of_one_subject(values.attrs, self._query.lazy.attrs)
        if roi is not None or mask is not None:
            raise ValueError("roi and mask are for values along voxel; these are volumes.")

    @cached_property
    def _made_weights(self) -> dict[tuple[Any, ...], Any]:
        return {}

    def _weights(
        self, make: Callable[..., Any], *how: str, grid: templates.Grid | None = None
    ) -> Any:
        """Weights to a template, of all voxels of a grid or of all vertices; computed once."""
        grids = () if grid is None else (grid,)
        what = (make.__name__, *how, *((shape, affine.tobytes()) for shape, affine in grids))
        if what not in self._made_weights:
            self._made_weights[what] = make(self._recon, *grids, *how)
        return self._made_weights[what]
