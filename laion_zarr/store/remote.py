"""Object storage at a URL, through fsspec: options, retries and error messages."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Self, TypeVar

from zarr.abc.store import ByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore

from laion_zarr._release import is_bucket
from laion_zarr.errors import LaionZarrError, StoreError
from laion_zarr.store import retry
from laion_zarr.store.retry import Transient, Unreachable

T = TypeVar("T")

_REGION = "us-west-2"  # AWS region of the release's bucket
_TIMEOUT = 30  # seconds without any received byte
_CONNECTIONS = 64  # with botocore's default of 10, concurrent requests would queue
# Definite answers of the storage: a retry would give the same answer.
_FINAL = (FileNotFoundError, FileExistsError, PermissionError, NotImplementedError)
# Network errors of the libraries below s3fs and fsspec's HTTP: by class name, so that neither
# botocore nor aiohttp is imported for this.
_OF_NETWORKS = {
    *("HTTPClientError", "ConnectionError", "ClientError", "IncompleteReadError"),
    "ResponseParserError",
}
_BUSY = (408, 429)  # HTTP status of a busy server; also 5xx, except for the next two
_LASTING = (501, 507)  # not implemented, no space: a retry would give the same answer
_BUSY_CODES = ("SlowDown", "RequestTimeout")  # error codes of S3, with any HTTP status
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # as botocore reads them, in this order
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError")
_NO_CONNECTION = {("botocore", "ConnectionError"), ("aiohttp", "ClientConnectorError")}
_ARCHIVES = ("zip", "tar", "libarchive")  # in a chained URL such as zip::s3://bucket/store.zip


def is_remote(url: str) -> bool:
    """Whether a path is a URL of storage other than a local disk (``file://``)."""
    return "://" in url and not url.startswith("file://")


def endpoint() -> str | None:
    """URL of a server to ask instead of Amazon's, from the environment."""
    return next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)


def endpoint_variable() -> str | None:
    """Name of the environment variable that sets `endpoint`."""
    return next((name for name in _ENDPOINTS if os.environ.get(name)), None)


def options(url: str, given: dict[str, Any] | None = None) -> dict[str, Any]:
    """Options of fsspec for a URL: those of the user, and settings for many small requests."""
    found = dict(given or {})
    if not url.startswith(("s3://", "s3a://")):
        return found
    if is_bucket(url):
        found["anon"] = True
        found["client_kwargs"] = {"region_name": _REGION} | found.get("client_kwargs", {})
    config = {
        "max_pool_connections": _CONNECTIONS,
        "read_timeout": _TIMEOUT,
        # laion_zarr retries by itself; nested retries in botocore and s3fs would take minutes.
        "retries": {"total_max_attempts": 1},
    }
    found["config_kwargs"] = config | found.get("config_kwargs", {})
    if "endpoint_url" not in found.get("client_kwargs", {}) and (server := endpoint()):
        # botocore reads the variable as well, but fsspec would keep using the first endpoint.
        found.setdefault("endpoint_url", server)
    # Otherwise s3fs requests the size of each object before it reads the whole object.
    found.setdefault("max_concurrency", 1)
    # A cached listing would not show objects that worker processes write.
    found.setdefault("use_listings_cache", False)
    return found


def without_retries(filesystem: Any) -> Any:
    """Turn off retries in s3fs, as laion_zarr retries by itself; returns the file system."""
    if hasattr(filesystem, "retries"):  # s3fs
        filesystem.retries = 1
    return filesystem


# -- failures


class Refused(LaionZarrError):
    """The storage refuses access, or no credentials are set."""


def answer_of(error: BaseException) -> tuple[int | None, str]:
    """HTTP status and S3 error code of a failed request, as far as the exception carries them."""
    for one in (error, error.__cause__):
        response = getattr(one, "response", None)  # botocore
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return status, response.get("Error", {}).get("Code", "")
        status = getattr(one, "status", None)  # aiohttp
        if isinstance(status, int):
            return status, ""
    return None, ""


def _is_unreachable(error: BaseException) -> bool:
    """Whether no connection could be made."""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__}
    return bool(kinds & _NO_CONNECTION)


def in_words(error: BaseException) -> LaionZarrError:
    """Convert the exception of a failed request to object storage, from any library.

    Returns
    -------
    LaionZarrError
        `Unreachable` if no connection could be made, another `Transient` if a retry may succeed,
        `Refused` if access is refused, and a plain `LaionZarrError` if a retry would fail again.
        The message is a clause, to which the caller adds the location and the remedy.
    """
    status, code = answer_of(error)
    said = str(error).strip().rstrip(".") or type(error).__name__
    http = f" (HTTP {status})" if status and f"HTTP {status}" not in said else ""
    if isinstance(error, PermissionError) or status in (401, 403):
        return Refused(f"access is refused{http}")
    if type(error).__name__ in _NO_CREDENTIALS:
        return Refused("no AWS credentials are set")
    if code == "NoSuchBucket":
        return LaionZarrError("there is no such bucket")
    if status == 412:
        return LaionZarrError("it has changed since it was listed; run the same again")
    if _is_unreachable(error):
        return Unreachable(f"it cannot be reached ({said})")
    if not may_pass(error):
        return LaionZarrError(f"{said}{http}")
    return Transient(
        f"the server is busy or fails{http}: {said}" if status else f"cut off ({said})"
    )


def may_pass(error: BaseException) -> bool:
    """Whether a retry of the failed request may succeed."""
    if isinstance(error, _FINAL):
        return False
    status, code = answer_of(error)
    if status is not None:
        busy = status in _BUSY or (status >= 500 and status not in _LASTING)
        return busy or code in _BUSY_CODES
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, OSError) or bool(names & _OF_NETWORKS)


def explain(error: BaseException) -> str:
    """Cause and remedy of a failed request to a URL that the user passed, as an error message."""
    found = in_words(error)
    if type(error).__name__ in _NO_CREDENTIALS:
        return (
            f"{found}. Set some, or for public data storage_options={{'anon': True}} "
            "(--storage-option anon=true)"
        )
    if isinstance(found, Refused):
        return (
            f"{found}. Public data is asked for without credentials "
            "(storage_options={'anon': True}, --storage-option anon=true), other data with some "
            "that may read it (AWS_PROFILE, or key and secret). Some buckets also refuse what is "
            "not there: check the name"
        )
    if isinstance(found, Transient):
        where = f" and {endpoint_variable()} ({endpoint()})" if endpoint() else ""
        return (
            f"{found} (tried {len(retry.PAUSES) + 1} times). Check the network{where}, then run "
            "the same again"
        )
    if isinstance(error, FileNotFoundError):
        return f"{found}. Check the name of the bucket and the key"
    return str(found)


def retrying(ask: Callable[[], T]) -> T:
    """Call `ask` again after errors that may pass; raises any other error, and the last error."""
    for attempt in range(len(retry.PAUSES)):
        try:
            return ask()
        except Exception as error:
            if not may_pass(error):
                raise
            time.sleep(retry.pause_before(attempt))
    return ask()


async def _retrying(ask: Callable[[], Awaitable[T]]) -> T:
    for attempt in range(len(retry.PAUSES)):
        try:
            return await ask()
        except Exception as error:
            if not may_pass(error):
                raise
            await asyncio.sleep(retry.pause_before(attempt))
    return await ask()


def name_of(store: FsspecStore, key: str = "") -> str:
    """URL of a key, as a user would write it."""
    url = getattr(store, "url", None) or _full_url(store.fs, store.path)
    if not key:
        return url.rstrip("/")
    first, chained, rest = url.partition("::")
    if not chained:
        return f"{url.rstrip('/')}/{key}"
    if first.partition("://")[0] in _ARCHIVES:  # the key lies in the archive, not beside it
        return f"{first}{'/' if '://' in first else '://'}{key}::{rest}"
    return f"{first}::{rest.rstrip('/')}/{key}"


def _full_url(fs: Any, path: str) -> str:
    """URL of a path, whose file system keeps the protocol in its paths (HTTP), or does not."""
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    # Releases of fsspec differ in whether the class of HTTP knows that it is also that of HTTPS.
    if path.startswith(tuple(f"{one}://" for one in (*protocols, "http", "https"))):
        return path
    return f"{protocols[0]}://{path if protocols[0] == 'file' else path.lstrip('/')}"


def without_ranges(name: str) -> str:
    """Message about a web server that answers a request for some bytes with the whole file."""
    return (
        f"{name}: the server sends the whole file where some of its bytes are asked for: it does "
        "not know range requests (HTTP Range), without which nothing can be read in part. The file "
        "may be whole. Have a server that does (nginx, Apache, any object storage), or copy what "
        "lies there to a disk and name that"
    )


async def _answer(store: FsspecStore, key: str, ask: Callable[[], Awaitable[T]]) -> T:
    """Result of a read request, with retries; raises a StoreError that names the key."""
    try:
        return await _retrying(ask)
    except FileNotFoundError:
        raise
    except Exception as error:  # the four libraries below have their own errors
        raise StoreError(f"{name_of(store, key)}: {explain(error)}.") from error


def _most(byte_range: ByteRequest | None) -> float:
    """Largest number of bytes that may come for a request."""
    if isinstance(byte_range, RangeByteRequest):
        return byte_range.end - byte_range.start
    return byte_range.suffix if isinstance(byte_range, SuffixByteRequest) else math.inf


async def _listed(
    store: FsspecStore, key: str, names: Callable[[], AsyncIterator[str]]
) -> list[str]:
    async def once() -> list[str]:
        return [name async for name in names()]

    return await _answer(store, key, once)


class RemoteStore(FsspecStore):
    """Zarr store at a URL that retries requests after transient errors.

    Attributes
    ----------
    url : str or None
        The URL as the user gave it.
    """

    url: str | None = None

    @classmethod
    def at(cls, url: str, given: dict[str, Any] | None, read_only: bool) -> Self:
        """Open a URL; nothing is read."""
        store = cls.from_url(url, storage_options=options(url, given), read_only=read_only)
        assert isinstance(store, cls)
        without_retries(store.fs)
        store.url = url
        return store

    def with_read_only(self, read_only: bool = False) -> Self:
        """The same store, open for reading alone or not."""
        store: Any = super().with_read_only(read_only)
        store.url = self.url
        return store

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read an object, or a range of its bytes; None if there is no such object."""
        data = await _answer(self, key, partial(super().get, key, prototype, byte_range))
        if data is not None and len(data) > _most(byte_range):
            raise StoreError(f"{without_ranges(name_of(self, key))}.")
        return data

    async def set(self, key: str, value: Buffer, byte_range: tuple[int, int] | None = None) -> None:
        """Write an object."""
        await _retrying(partial(super().set, key, value, byte_range))

    async def delete(self, key: str) -> None:
        """Remove an object."""
        await _retrying(partial(super().delete, key))

    async def delete_dir(self, prefix: str) -> None:
        """Remove all objects below a prefix."""
        await _retrying(partial(super().delete_dir, prefix))

    async def getsize(self, key: str) -> int:
        """Size of an object in bytes; raises FileNotFoundError if there is no such object."""
        return await _answer(self, key, partial(super().getsize, key))

    async def list(self) -> AsyncIterator[str]:
        """Keys of all objects."""
        for key in await _listed(self, "", super().list):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Keys of all objects whose key begins with a prefix."""
        for key in await _listed(self, prefix, partial(super().list_prefix, prefix)):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names of the objects and folders directly below a prefix."""
        for key in await _listed(self, prefix, partial(super().list_dir, prefix)):
            yield key

    async def copy(self, source: str, target: str) -> None:
        """Copy an object within the storage, without a download."""
        paths = [f"{self.path}/{key}" for key in (source, target)]
        await _retrying(partial(self.fs._cp_file, *paths))
