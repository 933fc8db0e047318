"""The contents of a folder, to compare two stores or to see that nothing was changed."""

from __future__ import annotations

from pathlib import Path


def tree(root: Path) -> dict[str, bytes | None]:
    """Contents of all files below a folder by relative path; None for a folder."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(Path(root).rglob("*"))
    }


def tree_bytes(root: Path, pattern: str = "**/*") -> dict[str, bytes]:
    """Contents of the files below a folder that match a pattern, by relative path."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(Path(root).glob(pattern))
        if path.is_file()
    }
