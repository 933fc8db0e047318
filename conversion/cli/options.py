"""Options that several commands share, each declared once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from laion_zarr.conversion.cli import completion

Quiet = Annotated[bool, Parameter(help="no progress bar")]
Json = Annotated[bool, Parameter(help="print one JSON object, described in the docs")]
# Always a str, as cyclopts tries the first type first; the second has the shell complete files.
Location = str | Path
Source = Annotated[
    Location | None,
    Parameter(
        metavar="DIR",
        help="folder that holds 'derivatives', or s3://laion-fmri (default: as configured)",
    ),
]
Subject = Annotated[
    str | None, Parameter(help="only this one, such as sub-01", completer=completion.subjects)
]
Subjects = Annotated[
    list[str],
    Parameter(help="such as sub-01, or 'all'", consume_multiple=1, completer=completion.subjects),
]
Words = Annotated[list[str], Parameter(consume_multiple=1)]  # one or more after the option
SESSIONS = Parameter(completer=completion.sessions)


@Parameter(name="*")
@dataclass(frozen=True)
class Place:
    """Where the store is."""

    store: Annotated[
        Location | None,
        Parameter(
            metavar="S", help="local path or fsspec URL of the store (default: as configured)"
        ),
    ] = None
    storage_option: Annotated[
        list[str],
        Parameter(
            metavar="KEY=VALUE", help="option for a store at a URL; may be given several times"
        ),
    ] = field(default_factory=list)

    @property
    def storage_options(self) -> dict[str, str | bool]:
        """Options of fsspec, by key."""
        pairs = [option.partition("=") for option in self.storage_option]
        if wrong := [key for key, equals, _ in pairs if not equals]:
            raise ValueError(f"--storage-option takes KEY=VALUE, got {wrong[0]!r}.")
        truth = {"true": True, "false": False}
        return {key: truth.get(value.lower(), value) for key, _, value in pairs}


DEFAULT_PLACE = Place()
