"""p-values by permutation tests."""

from __future__ import annotations

import numpy as np
import xarray as xr


def permutation_pvalue(
    observed: xr.DataArray,
    permuted: xr.DataArray,
    dim: str = "permutation",
    two_sided: bool = False,
) -> xr.DataArray:
    """p-value of a statistic, from its values under permutation (the null distribution).

    Parameters
    ----------
    observed : xarray.DataArray, (…)
        The statistic, such as a correlation for each voxel.
    permuted : xarray.DataArray, (permutation, …)
        The statistic computed from permuted data, with the labels of `observed`.
    dim : str
        Name of the dim of `permuted` along which permutations lie.
    two_sided : bool
        Whether to compare absolute values, for a statistic that is symmetric around 0 where there
        is no effect. If False, only large positive values are evidence for an effect.

    Returns
    -------
    xarray.DataArray, (…) float64
        p = (1 + #{T_perm ≥ T}) ÷ (1 + N), never 0. NaN where `observed` is NaN; permutations that
        are NaN are not counted. Not corrected for multiple comparisons. Lazy if the input is lazy.

    Raises
    ------
    ValueError
        If `permuted` does not have the dims of `observed` and `dim`, or its labels differ from
        those of `observed`.

    Notes
    -----
    Phipson & Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9, article 39. The units that are permuted
    must be exchangeable: permute images, one value per image, and not single trials, because
    trials of one image are dependent.

    Examples
    --------
    Correlate the predictions of an encoding model with betas whose images are permuted. A
    correlation is the mean product of z-scores, so that each permutation costs one product:

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
