"""p-values by permutation."""

from __future__ import annotations

import numpy as np
import xarray as xr


def permutation_pvalue(
    observed: xr.DataArray,
    permuted: xr.DataArray,
    dim: str = "permutation",
    two_sided: bool = False,
) -> xr.DataArray:
    """p-value of a statistic, from what it is when nothing is there to be found.

    Parameters
    ----------
    observed : xarray.DataArray, (…)
        The statistic: a correlation of each voxel, say.
    permuted : xarray.DataArray, (permutation, …)
        The same of permuted data, with the labels of `observed`.
    dim : str
        Dim of `permuted` that counts permutations.
    two_sided : bool
        Whether to compare absolute values, for a statistic that is symmetric around 0 where there
        is no effect. Otherwise only large values count.

    Returns
    -------
    xarray.DataArray, (…) float64
        p = (1 + #{T_perm ≥ T}) ÷ (1 + N), never 0. NaN where `observed` is; permutations that are
        NaN are not counted. Not corrected for how many p-values there are. Lazy if the input is.

    Raises
    ------
    ValueError
        If `permuted` has no such dim, or both have not the same labels.

    Notes
    -----
    Phipson & Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9, article 39. What is permuted must be
    exchangeable: images, each once, not the trials of an image.

    Examples
    --------
    Predictions of an encoding model against the betas of images in another order. A correlation is
    the mean product of z-scores, so that each permutation costs one product:

    >>> import numpy as np, xarray as xr
    >>> from laion_zarr.analysis import permutation_pvalue
    >>> rng = np.random.default_rng(0)
    >>> predicted = xr.DataArray(rng.standard_normal((40, 3)), dims=("image", "voxel"))
    >>> betas = predicted + rng.standard_normal((40, 3))
    >>> z, b = ((v - v.mean("image")) / v.std("image") for v in (predicted, betas))
    >>> orders = [rng.permutation(z.sizes["image"]) for _ in range(999)]
    >>> permuted = [(z * b.values[order]).mean("image") for order in orders]
    >>> p = permutation_pvalue((z * b).mean("image"), xr.concat(permuted, "permutation"))
    >>> bool((p < 0.05).all())
    True
    """
    if dim not in permuted.dims or set(permuted.dims) != {dim, *observed.dims}:
        raise ValueError(
            f"permuted must have the dims of observed, {tuple(map(str, observed.dims))}, and "
            f"{dim!r}; got {tuple(map(str, permuted.dims))}."
        )
    observed, permuted = xr.align(observed, permuted, join="exact", exclude=[dim])
    given, drawn = (abs(observed), abs(permuted)) if two_sided else (observed, permuted)
    at_least = (drawn >= given).sum(dim)
    p = (1 + at_least) / (1 + permuted.notnull().sum(dim))
    p = p.where(observed.notnull()).transpose(*observed.dims).astype(np.float64)
    return p.rename("p_value").assign_attrs(
        description="p-value by permutation, " + ("two-sided" if two_sided else "one-sided")
    )
