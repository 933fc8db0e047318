"""The explorer: a page in the browser that reads a store directly, and the ways to it.

Modules: `page` (the built files of the page, and their export), `objects` (which objects of a store
may be read), `server` (the page and a store at an address of this machine), `notebook` (the page in
a notebook: `explore`), `widget` (the same as an anywidget, which is optional). ``explorer/`` at the
root of the repository has the page's sources; ``make explorer`` builds them into ``page/`` here.

Guarantees: only objects below the root of the store are read, links that lead outside are refused,
and nothing is ever written; the server answers this machine alone, and its pages load nothing from
anywhere else.

Begin with `server`, then `objects.read_object`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from laion_zarr._lazy_names import lazy_names

if TYPE_CHECKING:
    from laion_zarr.explorer.notebook import explore

__all__ = ["explore"]

__getattr__, __dir__ = lazy_names(__name__, {"explore": "laion_zarr.explorer.notebook"})
