"""What commands print: JSON objects on stdout, errors in one line each on stderr.

``schemas/`` holds the JSON Schema of each object.
"""

from __future__ import annotations

import json
import sys
from difflib import get_close_matches
from typing import Any

from cyclopts import (
    ArgumentCollection,
    CycloptsError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from laion_zarr.errors import nearest
from laion_zarr.store.bounds.text import printable

# Grows when a field goes or changes its meaning; fields may be added to a version.
VERSION = 1


def print_document(command: str, facts: dict[str, Any]) -> None:
    """Print the object of a command on stdout: its name, the version, and its facts."""
    print(json.dumps({"command": command, "version": VERSION, **facts}, indent=1))


def in_words(error: CycloptsError) -> str:
    """What is wrong with a command line, the nearest word, and where the right ones are listed."""
    of = " ".join(["laion-zarr", *(error.command_chain or ())])
    listed = f"'{of} --help' lists"
    word = (error.unused_tokens or [""])[0]
    if isinstance(error, UnknownCommandError):
        near = nearest(word, (name for name in error.app or () if not name.startswith("-")))
        return f"Unknown command {word!r}.{near} {listed} the commands."
    if isinstance(error, UnknownOptionError):
        word = error.token.keyword or error.token.value
        near = _option(error.argument_collection, word)
        return f"Unknown option {word} of '{of}'.{near} {listed} its options."
    if isinstance(error, UnusedCliTokensError) and error.app is not None:
        options = error.app.assemble_argument_collection()
        option = "--store" if word.endswith(".zarr") else "--source"
        near = _option(options, option, f" {word}") if "/" in word or "." in word else ""
        return f"{word!r} belongs to no option.{near} {listed} the options."
    return str(error)


def _option(options: ArgumentCollection, word: str, value: str = "") -> str:
    """Question for an error about an unknown option: the one that is like it, if one is."""
    known = {name.lstrip("-"): name for option in options for name in option.names}
    (near,) = get_close_matches(word.lstrip("-"), known, 1) or [""]
    return f" Did you mean {known[near]}{value}?" if near else ""


def complain(error: BaseException, what: str = "") -> None:
    """Print an error on stderr, with what it is about, in one line."""
    said = in_words(error) if isinstance(error, CycloptsError) else str(error)
    message = printable(" ".join(said.split()) or type(error).__name__)
    print(f"error: {what}{': ' if what else ''}{message}", file=sys.stderr)
