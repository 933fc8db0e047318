"""The command ``laion-zarr``: parses the command line, calls the library, prints the result.

`commands` lists the commands, in the groups of ``--help``, and runs them; `download` and `store`
hold a function for each, with its options, and `options` those that several share. `info` gathers
and words what ``info`` prints, `demo` runs the demo, `completion` finds the values that a shell
completes, and `output` prints JSON objects and errors. Each other command is one call to the
package that does the work.

Each error is one readable line on stderr. The exit code is 0 only if everything that the user
asked for is done. ``--help`` and the shell's TAB answer at once, since modules that are slow to
import are imported only by the commands that need them.

Begin with `commands.main`.
"""

from laion_zarr.conversion.cli.commands import main

__all__ = ["main"]
