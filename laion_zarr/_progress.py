"""A progress bar of work that Dask does, for people who wait for it: none in scripts."""

from __future__ import annotations

import builtins
import os
import sys
import threading
from typing import Any

from tqdm.auto import tqdm

_SILENT = "LAION_ZARR_PROGRESS"  # "0" in the environment: no bars


def is_watched() -> bool:
    """Whether somebody sits before this session: a notebook, IPython, or Python's own prompt."""
    interactive = hasattr(builtins, "__IPYTHON__") or hasattr(sys, "ps1")
    return interactive and os.environ.get(_SILENT) != "0"


def _dask_shows_one() -> bool:
    # Schedulers hide the callbacks from tasks; the thread that draws the bar is seen.
    return any(thread.name.endswith("(_timer_func)") for thread in threading.enumerate())


class Bar:
    """Progress of a computation whose tasks report when they are done.

    There is none beside Dask's own bar, and none in the first second. A computation that is
    repeated gets a new one.

    Parameters
    ----------
    what : str
        What is computed.
    total : int
        Number of tasks.
    """

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total
        self._lock = threading.Lock()
        self._shown: Any = None
        self._done = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return Bar, (self.what, self.total)  # another process has a lock of its own

    def step(self) -> None:
        """Report that one task is done."""
        if not is_watched():
            return
        with self._lock:
            if self._shown is None and _dask_shows_one():
                return
            if self._shown is None:
                self._shown = tqdm(total=self.total, desc=self.what, delay=1, unit=" part")
            self._done += 1
            self._shown.update()
            if self._done == self.total:
                self._shown.close()
                self._shown, self._done = None, 0
