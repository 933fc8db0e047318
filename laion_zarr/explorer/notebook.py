"""The page in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from laion_zarr.config import get_store
from laion_zarr.errors import NotConvertedError
from laion_zarr.store.manifest import subjects_in
from laion_zarr.store.objects import StoreLike, location, open_store

if TYPE_CHECKING:
    from laion_zarr.explorer.widget import ExplorerWidget


def explore(
    store: StoreLike | None = None,
    subject: str | None = None,
    storage_options: dict[str, Any] | None = None,
) -> ExplorerWidget:
    """Look at a store in a notebook: brain, voxels and regions, pictures.

    The kernel reads the store, so it works wherever the notebook does; what is chosen in the one is
    chosen in the other. ``laion-zarr explore`` shows the same in a page of its own.

    Parameters
    ----------
    store : str, Path or zarr.abc.store.Store, optional
        Path, URL or Zarr store. If not provided, the default store.
    subject : str, optional
        Subject that is shown first, such as ``"sub-01"``. If not provided, the first of the store.
    storage_options : dict, optional
        Options of fsspec for a URL.

    Returns
    -------
    laion_zarr.explorer.widget.ExplorerWidget
        With ``voxel`` (the voxel label under the crosshair, or None), ``picture`` (an image name,
        or empty), ``subject``, and ``overlay``: any (voxel,) array with its ``voxel`` labels, to be
        laid over the brain.

    Raises
    ------
    ImportError
        If anywidget is not installed: ``pip install "laion-zarr[explore]"``.
    NotConvertedError
        If there is no such store, or the store does not hold the subject.

    Examples
    --------
    >>> from laion_zarr import explore, load_subject
    >>> widget = explore()  # doctest: +SKIP
    >>> widget.overlay = load_subject("01").get_noise_ceiling("ses-01")  # doctest: +SKIP
    """
    try:
        from laion_zarr.explorer.widget import ExplorerWidget
    except ImportError as error:
        raise ImportError(
            f'The explorer in a notebook needs anywidget ({error}): pip install "laion-zarr'
            '[explore]". In a page of its own it needs nothing more: laion-zarr explore.'
        ) from error

    opened = open_store(get_store() if store is None else store, storage_options)
    subjects = subjects_in(opened)
    shown = subject or next(iter(subjects), "")
    if shown not in subjects:
        raise NotConvertedError(
            f"{shown or 'No subject'} is in the store {location(opened)}, which holds "
            f"{', '.join(subjects) or 'none'}. 'laion-zarr convert' adds what the source has."
        )
    return ExplorerWidget(opened, shown)
