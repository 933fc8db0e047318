"""The release's bucket: what lies in it, and its bytes. Only this module asks it, by s3fs.

Always anonymous, so no credentials are looked for. ``AWS_ENDPOINT_URL`` names another server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import s3fs
from fsspec.asyn import sync

from laion_zarr import _release as release
from laion_zarr.errors import LaionZarrError
from laion_zarr.store.remote import in_words
from laion_zarr.store.retry import Unreachable, retrying

NAME = release.BUCKET.removeprefix("s3://")
REGION = "us-west-2"
SUBJECT_FOLDERS = (release.GLM, release.ROIS)
TIMEOUT = 30  # seconds without a byte
_BLOCK = 1 << 20
_CONNECTIONS = 64

_filesystems: dict[str | None, s3fs.S3FileSystem] = {}
_listings: dict[tuple[str | None, str, str], Listing] = {}


@dataclass(frozen=True)
class Object:
    """One object of the bucket; the ETag without its quotes."""

    key: str
    size: int
    etag: str

    @property
    def md5(self) -> str | None:
        """MD5 of the content, which the ETag is unless it was put together of parts."""
        return None if "-" in self.etag else self.etag


@dataclass(frozen=True)
class Listing:
    """What lies below a prefix: objects, and the names of folders if they were not entered."""

    objects: tuple[Object, ...]
    folders: tuple[str, ...]


def _endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL") or None


def filesystem() -> s3fs.S3FileSystem:
    """The one s3fs file system for the bucket, without credentials."""
    endpoint = _endpoint()
    if endpoint not in _filesystems:
        fs = s3fs.S3FileSystem(
            anon=True,
            endpoint_url=endpoint,
            client_kwargs={"region_name": REGION},
            config_kwargs={
                "read_timeout": TIMEOUT,
                "max_pool_connections": _CONNECTIONS,
                "retries": {"total_max_attempts": 1},  # `_retry` tries again
            },
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        fs.retries = 1
        _filesystems[endpoint] = fs
    return _filesystems[endpoint]


def clear() -> None:
    """Forget all listings: the next question goes to the bucket again."""
    _listings.clear()


def _where() -> str:
    endpoint = _endpoint()
    return f"{release.BUCKET} at {endpoint}" if endpoint else release.BUCKET


def _check_what() -> str:
    if _endpoint():
        return f"Check AWS_ENDPOINT_URL (it is {_endpoint()}), or unset it to ask Amazon."
    return (
        "Check the network connection and, behind a proxy, HTTPS_PROXY; then run the same again. "
        f"'curl -I https://{NAME}.s3.amazonaws.com' should answer."
    )


def _as_ours(error: Exception) -> LaionZarrError:
    """An error of s3fs, or of a library below it, in words."""
    found = in_words(error)
    if isinstance(found, Unreachable):  # no other request will fare better: say so in full
        return Unreachable(f"{_where()}: {found}. {_check_what()}")
    return found


def _call(method: str, **arguments: Any) -> dict[str, Any]:
    try:
        return filesystem().call_s3(method, Bucket=NAME, **arguments)
    except Exception as error:  # whatever four libraries below may raise
        raise _as_ours(error) from error


def _page(arguments: dict[str, str]) -> dict[str, Any]:
    try:
        return retrying(partial(_call, "list_objects_v2", **arguments))
    except LaionZarrError as error:
        if _where() in str(error):
            raise
        raise LaionZarrError(f"{_where()} cannot be listed: {error}. {_check_what()}") from error


def _list(prefix: str, delimiter: str) -> Listing:
    known = (_endpoint(), prefix, delimiter)
    if known not in _listings:
        objects: list[Object] = []
        folders: list[str] = []
        arguments = {"Prefix": prefix, "Delimiter": delimiter}
        while True:
            page = _page(arguments)
            objects += [
                Object(found["Key"], found["Size"], found["ETag"].strip('"'))
                for found in page.get("Contents", [])
                if not found["Key"].endswith("/")  # a folder's placeholder
            ]
            folders += [found["Prefix"] for found in page.get("CommonPrefixes", [])]
            if not page.get("IsTruncated"):
                break
            arguments["ContinuationToken"] = page["NextContinuationToken"]
        names = tuple(name[len(prefix) :].rstrip("/") for name in folders)
        _listings[known] = Listing(tuple(objects), names)
    return _listings[known]


def objects(prefix: object) -> tuple[Object, ...]:
    """All objects below a folder, as listed once per process."""
    return _list(f"{prefix}/", "").objects


def folder(prefix: object = "") -> Listing:
    """What lies in a folder, ``""`` for the top, as listed once per process."""
    return _list(f"{prefix}/" if str(prefix) else "", "/")


def subjects_in(prefix: object) -> list[str]:
    """Subjects that have a folder below a prefix."""
    return [name for name in folder(prefix).folders if name.startswith("sub-")]


def subjects() -> list[str]:
    """Subjects that the bucket holds betas or ROIs of, sorted."""
    return sorted({name for prefix in SUBJECT_FOLDERS for name in subjects_in(prefix)})


def check_subject(subject: object) -> str:
    """The id of a subject that the bucket holds, or the error that lists those."""
    found, there = release.subject_id(subject), subjects()
    if found not in there:
        raise ValueError(
            f"{found} is not in {release.BUCKET}. Name one of: {', '.join(there) or '(none)'}."
        )
    return found


async def _read(body: Any) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        while size < _BLOCK and (part := await body.read(_BLOCK - size)):
            parts.append(part)
            size += len(part)
    except Exception:
        if not parts:  # else what came counts, and the next call raises this again
            raise
    return b"".join(parts)


async def _close(body: Any) -> None:
    body.close()


def blocks(wanted: Object, start: int) -> Iterator[bytes]:
    """Bytes of an object from `start` on, as long as it is the one that was listed.

    Raises
    ------
    Transient
        If the same may go better in a moment.
    LaionZarrError
        If the object is gone, another one by now, or refused.
    """
    span = {"Range": f"bytes={start}-"} if start else {}
    answer = _call("get_object", Key=wanted.key, IfMatch=f'"{wanted.etag}"', **span)
    loop, body = filesystem().loop, answer["Body"]
    try:
        if start and not answer.get("ContentRange", "").startswith(f"bytes {start}-"):
            raise LaionZarrError("the server does not answer the range that was asked for")
        while True:
            try:
                data = sync(loop, _read, body)
            except Exception as error:
                raise _as_ours(error) from error
            if not data:
                return
            yield data
    finally:
        sync(loop, _close, body)
