"""The explorer's server in a thread of this process, for the tests of its answers and its page."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from laion_zarr.explorer.server import HOST, make_app
from laion_zarr.store.objects import StoreLike, open_store


@contextmanager
def exploring(store: StoreLike) -> Iterator[str]:
    """Serve the page and a store; yields the address of the page, with a slash at its end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    runner = web.AppRunner(make_app(open_store(store)))
    try:
        run(runner.setup())
        run(web.TCPSite(runner, HOST, 0).start())
        yield f"http://{HOST}:{runner.addresses[0][1]}/"
    finally:
        run(runner.cleanup())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
