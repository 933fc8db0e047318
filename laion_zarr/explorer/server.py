"""The page and a store at an address of this machine, for the browser."""

from __future__ import annotations

import asyncio
import webbrowser
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web
from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.sync import sync

from laion_zarr.errors import LaionZarrError, StoreError
from laion_zarr.explorer.objects import is_key, local_path, read_object
from laion_zarr.explorer.page import FILES, FOLDER, INDEX
from laion_zarr.store.disk import DiskStore
from laion_zarr.store.manifest import subjects_in
from laion_zarr.store.objects import StoreLike, open_store
from laion_zarr.store.schema import DEFAULT_STORE

HOST = "127.0.0.1"
PORT = 8642
# A page elsewhere whose name was made to point to this machine has that name as its host.
_HOSTS = {HOST, "localhost"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",  # pictures stay in the store alone
}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def serve(
    store: StoreLike,
    storage_options: dict[str, Any] | None,
    port: int | None,
    open_browser: bool,
) -> None:
    """Serve the page and a store until interrupted.

    Parameters
    ----------
    store : str, Path or zarr.abc.store.Store
        Path, URL or Zarr store.
    storage_options : dict, optional
        Options of fsspec for a URL.
    port : int, optional
        Port to listen on, 0 for any that is free. If not provided, `PORT`, or any if it is taken.
    open_browser : bool
        Whether to open the page in the user's browser.

    Raises
    ------
    NotConvertedError
        If there is no such store.
    LaionZarrError
        If the port is taken.
    """
    opened = open_store(store, storage_options)
    subjects_in(opened)  # a store that is none is an error here, not in the browser
    try:
        asyncio.run(_serve(opened, port, open_browser))
    except KeyboardInterrupt:
        print("Stopped.")


async def _serve(store: Store, port: int | None, open_browser: bool) -> None:
    runner = web.AppRunner(make_app(store), access_log=None)
    await runner.setup()
    try:
        address = await _listen(runner, port)
        print(f"Explorer {address} (Ctrl-C stops it)", flush=True)
        if open_browser:
            await asyncio.to_thread(webbrowser.open, address)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, port: int | None) -> str:
    try:
        await web.TCPSite(runner, HOST, PORT if port is None else port).start()
    except OSError as error:
        if port is not None:
            raise LaionZarrError(
                f"Port {port} cannot be used ({error.strerror}). Name another with --port, or "
                "leave it out for any that is free."
            ) from error
        await web.TCPSite(runner, HOST, 0).start()
    return f"http://{HOST}:{runner.addresses[0][1]}/"


def make_app(store: Store) -> web.Application:
    """Application that serves the page, and beside it the store, to GET and HEAD."""
    app = web.Application(middlewares=[_guard])
    app.router.add_get("/", partial(_page_file, INDEX))
    for name in FILES:
        app.router.add_get(f"/{name}", partial(_page_file, name))
    app.router.add_get(f"/{DEFAULT_STORE}/{{key:.+}}", partial(_object, store))
    return app


@web.middleware
async def _guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Refuse other hosts and methods; add the headers of every answer."""
    try:
        if request.method not in ("GET", "HEAD"):
            raise web.HTTPMethodNotAllowed(request.method, ["GET", "HEAD"])
        if request.host.rpartition(":")[0] not in _HOSTS and request.host not in _HOSTS:
            raise web.HTTPForbidden(text=f"This server is for {HOST} alone.")
        answer = await handler(request)
    except web.HTTPException as error:
        error.headers.update(_HEADERS)
        raise
    answer.headers.update(_HEADERS)
    return answer


async def _page_file(name: str, request: web.Request) -> web.StreamResponse:
    return web.FileResponse(FOLDER / name)


async def _object(store: Store, request: web.Request) -> web.StreamResponse:
    key = request.match_info["key"]
    try:
        if isinstance(store, DiskStore):
            path = local_path(store, key)
            if path is None:
                raise web.HTTPNotFound
            if not _is_text(request):
                return web.FileResponse(path, headers={"Content-Type": "application/octet-stream"})
            answer = web.Response(body=await asyncio.to_thread(path.read_bytes))
        else:
            answer = await _remote_object(store, key, request)
    except StoreError as error:
        raise web.HTTPForbidden(text=str(error)) from error
    if _is_text(request):
        answer.enable_compression()  # a manifest of 30 sessions is 330 kB, a third of that packed
    return answer


def _is_text(request: web.Request) -> bool:
    """Whether a whole manifest, or the metadata of an array, is asked for."""
    whole = request.method == "GET" and "Range" not in request.headers
    return whole and request.path.endswith(".json")


async def _remote_object(store: Store, key: str, request: web.Request) -> web.Response:
    span = _span(request)
    if request.method == "HEAD":
        size = await asyncio.to_thread(_size, store, key)
        return web.Response(headers={"Content-Length": str(size), "Accept-Ranges": "bytes"})
    data = await asyncio.to_thread(read_object, store, key, span)
    if data is None:
        raise web.HTTPNotFound
    if span is None:
        return web.Response(body=data, headers={"Accept-Ranges": "bytes"})
    start = request.http_range.start
    where = f"{start}-{start + len(data) - 1}" if start >= 0 else f"0-{len(data) - 1}"
    return web.Response(status=206, body=data, headers={"Content-Range": f"bytes {where}/*"})


def _size(store: Store, key: str) -> int:
    try:
        if is_key(key):
            return sync(store.getsize(key))
    except FileNotFoundError:
        pass
    raise web.HTTPNotFound


def _span(request: web.Request) -> ByteRequest | None:
    try:
        wanted = request.http_range
    except ValueError as error:
        raise web.HTTPRequestRangeNotSatisfiable from error
    if wanted.start is None:
        return None
    if wanted.start < 0:
        return SuffixByteRequest(-wanted.start)
    if wanted.stop is None:
        return OffsetByteRequest(wanted.start)
    return RangeByteRequest(wanted.start, wanted.stop)
