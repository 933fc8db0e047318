"""The command ``laion-zarr``: words in, one call, words out.

Knows the commands and their options (`commands`, `download`), what ``info`` prints (`info`), and
the demo (`demo`). Does no work of its own: each command is one call to the room that does the work.

Promises that errors are one readable line each on stderr, that the exit code is 0 only if all that
was asked for is done, and that ``--help`` answers at once: what is slow to import is imported by
the command that needs it.

Begin with `commands.main`.
"""

from laion_zarr.conversion.cli.commands import main

__all__ = ["main"]
