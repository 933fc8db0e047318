"""The contents of split files, by pool and name."""

from __future__ import annotations

import json
from pathlib import Path


def contents(folder):
    """Split files of a folder, by pool and name."""
    return {
        (path.parent.name, path.stem): json.loads(path.read_text())
        for path in Path(folder).glob("*/*.json")
    }
