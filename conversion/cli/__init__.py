"""The command ``laion-zarr``: parses the command line, calls the library, prints the result.

`commands` lists the commands, in the groups of ``--help``, and runs them; `download` and `store`
hold a function for each, with its options, and `options` those that several share. `info` gathers
and words what ``info`` prints, `demo` runs the demo, `completion` finds the values that a shell
completes, and `output` prints JSON objects and errors. Each other command is one call to the
package that does the work.

Each error is one readable line on stderr. The exit code is 0 only if everything that the user
asked for is done. ``--help`` and the shell's TAB answer at once, since modules that are slow to
import are imported only by the commands that need them; and Ctrl-C ends the command in one line
from the start, since what is imported here is little.

Begin with `commands.main`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``laion-zarr`` and return its exit code, 0 only if everything asked for is done."""
    with _ctrl_c_leaves():
        from laion_zarr.conversion.cli import commands
    return commands.main(argv)


@contextmanager
def _ctrl_c_leaves() -> Iterator[None]:
    """End the process at once on Ctrl-C, in one line, while nothing has been begun."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(*_: Any) -> None:
    """Leave without an exception, which a half-imported module might catch, or rename."""
    os.write(2, b"Interrupted. Nothing was changed; the same command begins anew.\n")
    os._exit(128 + signal.SIGINT)
