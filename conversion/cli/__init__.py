"""The command ``laion-zarr``: parses the command line, calls the library, prints the result.

`commands` and `download` define the commands and their options, `info` writes the text that
``info`` prints, and `demo` runs the demo. Each other command is one call to the package that does
the work.

Each error is one readable line on stderr. The exit code is 0 only if everything that the user
asked for is done. ``--help`` answers at once, since modules that are slow to import are imported
only by the commands that need them.

Begin with `commands.main`.
"""

from laion_zarr.conversion.cli.commands import main

__all__ = ["main"]
