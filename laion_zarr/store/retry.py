"""Retries after transient errors: HTTP 5xx and 429, timeouts, broken connections."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from laion_zarr.errors import LaionZarrError

T = TypeVar("T")

# Seconds before each retry, times a random factor of 0.5 to 1 so that many clients do not retry at
# the same moment.
PAUSES = (0.5, 1.0, 2.0, 4.0)


class Transient(LaionZarrError):
    """A request failed, and a retry may succeed."""


class Unreachable(Transient):
    """No connection could be made: other requests to this host would fail, too."""


def pause_before(attempt: int) -> float:
    """Seconds to wait before retry number `attempt`, counted from 0."""
    return PAUSES[attempt] * random.uniform(0.5, 1)


def retrying(ask: Callable[[], T]) -> T:
    """Call `ask` again after each `Transient` error; raises the last error."""
    for attempt in range(len(PAUSES)):
        try:
            return ask()
        except Transient as error:
            if attempt and isinstance(error, Unreachable):  # probably offline: report it soon
                raise
            time.sleep(pause_before(attempt))
    return ask()
