"""The page as an anywidget: it asks the kernel for objects of the store."""

from __future__ import annotations

from typing import Any

import anywidget
import numpy as np
import traitlets
import xarray as xr
from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest

from laion_zarr.errors import StoreError
from laion_zarr.explorer.objects import read_object
from laion_zarr.explorer.page import FOLDER, SCRIPT, STYLE
from laion_zarr.store.objects import location
from laion_zarr.store.schema import VOXEL


class ExplorerWidget(anywidget.AnyWidget):
    """The explorer of one store; made by `laion_zarr.explorer.explore`.

    Attributes
    ----------
    subject : str
        Subject that is shown.
    voxel : int or None
        Label of the voxel under the crosshair.
    picture : str
        Name of the image that is shown; empty if none.
    overlay : xarray.DataArray, (voxel,), or None
        Values that are laid over the brain, placed by their voxel labels; NaN is not shown.
    """

    _esm = FOLDER / SCRIPT
    _css = FOLDER / STYLE
    subject = traitlets.Unicode("").tag(sync=True)
    voxel = traitlets.Int(None, allow_none=True).tag(sync=True)
    picture = traitlets.Unicode("").tag(sync=True)
    overlay = traitlets.Any(None, allow_none=True)
    _store = traitlets.Unicode("").tag(sync=True)
    _overlay = traitlets.Any(None, allow_none=True).tag(sync=True)

    def __init__(self, store: Store, subject: str) -> None:
        super().__init__(subject=subject, _store=location(store))
        self._opened = store
        self.on_msg(self._answer)

    @traitlets.validate("overlay")
    def _checked(self, proposal: Any) -> xr.DataArray | None:
        values = proposal["value"]
        if values is None:
            return None
        if not isinstance(values, xr.DataArray) or values.dims != (VOXEL,):
            found = getattr(values, "dims", type(values).__name__)
            raise ValueError(f"overlay must be a DataArray of dims ('{VOXEL}',), got {found}.")
        if VOXEL not in values.coords:
            raise ValueError(f"overlay must have its {VOXEL} labels as a coordinate, found none.")
        return values

    @traitlets.observe("overlay")
    def _lay_over(self, change: Any) -> None:
        values = change["new"]
        self._overlay = None if values is None else _told(values)

    def _answer(self, _: Any, asked: dict[str, Any], buffers: list[Any]) -> None:
        key = str(asked["key"])
        try:
            data = read_object(self._opened, key, _span(asked["span"]))
        except StoreError as error:
            self.send({"id": asked["id"], "error": str(error)})
            return
        if data is None:
            missing = f"{location(self._opened, key)} is missing."
            self.send({"id": asked["id"], "error": missing})
            return
        self.send({"id": asked["id"]}, [data])


def _span(asked: dict[str, int] | None) -> ByteRequest | None:
    if asked is None:
        return None
    if "suffixLength" in asked:
        return SuffixByteRequest(asked["suffixLength"])
    return RangeByteRequest(asked["offset"], asked["offset"] + asked["length"])


def _told(values: xr.DataArray) -> dict[str, Any]:
    return {
        "name": str(values.name or "Own values"),
        "units": str(values.attrs.get("units", "")),
        "labels": np.asarray(values[VOXEL], dtype="<i4").tobytes(),
        "values": np.asarray(values, dtype="<f4").tobytes(),
    }
