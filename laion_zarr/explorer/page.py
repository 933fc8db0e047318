"""The built files of the page, and their export."""

from __future__ import annotations

import shutil
from pathlib import Path

from laion_zarr.store.schema import DEFAULT_STORE

FOLDER = Path(__file__).parent / "page"
INDEX = "index.html"
SCRIPT, STYLE = "explorer.js", "explorer.css"
FILES = (INDEX, "start.js", SCRIPT, STYLE, "licenses.txt")


def export_page(folder: str | Path) -> str:
    """Write the page into a folder, which is made if need be; returns what to do with it."""
    target = Path(folder).expanduser()
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(FOLDER / name, target / name)
    return (
        f"{target}: {', '.join(FILES)}. Put these files beside {DEFAULT_STORE}, or name another "
        f"store in the address of the page: {INDEX}?store=ADDRESS"
    )
