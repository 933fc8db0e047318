"""Trying again what failed for a moment: 5xx, 429, timeouts, connections cut off."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from laion_zarr.errors import LaionZarrError

T = TypeVar("T")

# Seconds before each further try, times a random 0.5 to 1 so that many clients spread.
PAUSES = (0.5, 1.0, 2.0, 4.0)


class Transient(LaionZarrError):
    """What may well go better in a moment."""


class Unreachable(Transient):
    """No connection at all: nothing else from there will work, either."""


def pause_before(attempt: int) -> float:
    """Seconds to wait before the further try number `attempt`, from 0."""
    return PAUSES[attempt] * random.uniform(0.5, 1)


def retrying(ask: Callable[[], T]) -> T:
    """Call `ask` until it answers, or raise what it raised last."""
    for attempt in range(len(PAUSES)):
        try:
            return ask()
        except Transient as error:
            if attempt and isinstance(error, Unreachable):  # who is offline wants to know soon
                raise
            time.sleep(pause_before(attempt))
    return ask()
