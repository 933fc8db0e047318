"""A store that counts requests, and how often a reader waits for them."""

from __future__ import annotations

import asyncio
from typing import Any

from zarr.storage import WrapperStore


class SlowStore(WrapperStore):
    """A store where every request takes a while, as in a bucket.

    Attributes
    ----------
    requests : int
        Number of requests.
    rounds : int
        Number of requests that began while no other was under way: how often a reader waits.
    """

    requests = rounds = in_flight = 0

    async def get(self, *args: Any, **options: Any) -> Any:
        """Read after a pause."""
        self.requests += 1
        self.rounds += self.in_flight == 0
        self.in_flight += 1
        await asyncio.sleep(0.02)
        value = await super().get(*args, **options)
        self.in_flight -= 1
        return value
