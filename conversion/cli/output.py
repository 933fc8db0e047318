"""What commands print: JSON objects on stdout, errors in one line each on stderr.

``schemas/`` holds the JSON Schema of each object.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from laion_zarr.store.bounds.text import printable

# Grows when a field goes or changes its meaning; fields may be added to a version.
VERSION = 1


def print_document(command: str, facts: dict[str, Any]) -> None:
    """Print the object of a command on stdout: its name, the version, and its facts."""
    print(json.dumps({"command": command, "version": VERSION, **facts}, indent=1))


def complain(error: BaseException, what: str = "") -> None:
    """Print an error on stderr, with what it is about, in one line."""
    message = printable(" ".join(str(error).split()) or type(error).__name__)
    print(f"error: {what}{': ' if what else ''}{message}", file=sys.stderr)
