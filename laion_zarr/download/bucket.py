"""Listings and contents of the release's bucket; the only module of the package that imports s3fs.

Requests are always anonymous, so no credentials are looked up. The environment variable
``AWS_ENDPOINT_URL_S3``, else ``AWS_ENDPOINT_URL``, sets another server.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import s3fs
from fsspec.asyn import sync

from laion_zarr import _release as release
from laion_zarr.errors import LaionZarrError
from laion_zarr.store.remote import (
    answer_of,
    endpoint,
    endpoint_variable,
    in_words,
    options,
    without_retries,
)
from laion_zarr.store.retry import Transient, Unreachable, retrying

NAME = release.BUCKET.removeprefix("s3://")
SUBJECT_FOLDERS = (release.GLM, release.ROIS)
# Of some subjects, only these may be there; raw data are in folders at the top.
_OTHER_FOLDERS = (release.LOCALIZERS, release.TEDANA, "")
_BLOCK = 1 << 20

_filesystems: dict[str | None, s3fs.S3FileSystem] = {}
_listings: dict[tuple[str | None, str, str], Listing] = {}


@dataclass(frozen=True)
class Object:
    """One object of the bucket: key, size in bytes, ETag without quotes."""

    key: str
    size: int
    etag: str

    @property
    def md5(self) -> str | None:
        """MD5 of the content, which is the ETag; None if the object was uploaded in parts."""
        return None if "-" in self.etag else self.etag


@dataclass(frozen=True)
class Listing:
    """Objects below a prefix and, if the listing is not recursive, the names of folders."""

    objects: tuple[Object, ...]
    folders: tuple[str, ...]


def filesystem() -> s3fs.S3FileSystem:
    """The s3fs file system for the bucket, without credentials; made once per endpoint."""
    server = endpoint()
    if server not in _filesystems:
        fs = s3fs.S3FileSystem(**options(release.BUCKET), skip_instance_cache=True)
        _filesystems[server] = without_retries(fs)
    return _filesystems[server]


def clear() -> None:
    """Drop the cached listings, so that the next listing is requested from the bucket."""
    _listings.clear()


def _where() -> str:
    server = endpoint()
    return f"{release.BUCKET} at {server}" if server else release.BUCKET


def _check_what() -> str:
    if endpoint():
        return f"Check {endpoint_variable()} (it is {endpoint()}), or unset it to ask Amazon."
    return (
        "Check the network connection and, behind a proxy, HTTPS_PROXY; then run the same again. "
        f"'curl -I https://{NAME}.s3.amazonaws.com' should answer."
    )


def _as_ours(error: Exception) -> LaionZarrError:
    """Convert an error of s3fs, or of a library below it, to an error with a readable message."""
    found = in_words(error)
    if isinstance(found, Unreachable):  # any other request would fail, too: say what to check
        return Unreachable(f"{_where()}: {found}. {_check_what()}")
    no_answer = answer_of(error) == (None, "") and not isinstance(error, ValueError)
    if no_answer and not isinstance(found, Transient):
        return Transient(str(found))  # such as a closed session: a file is continued where it ended
    return found


def _call(method: str, **arguments: Any) -> dict[str, Any]:
    try:
        return filesystem().call_s3(method, Bucket=NAME, **arguments)
    except Exception as error:  # s3fs and the libraries below it raise many types
        raise _as_ours(error) from error


def _page(arguments: dict[str, str]) -> dict[str, Any]:
    try:
        return retrying(partial(_call, "list_objects_v2", **arguments))
    except LaionZarrError as error:
        if _where() in str(error):
            raise
        raise LaionZarrError(f"{_where()} cannot be listed: {error}. {_check_what()}") from error


def _list(prefix: str, delimiter: str) -> Listing:
    known = (endpoint(), prefix, delimiter)
    if known not in _listings:
        objects: list[Object] = []
        folders: list[str] = []
        arguments = {"Prefix": prefix, "Delimiter": delimiter}
        while True:
            page = _page(arguments)
            objects += [
                Object(found["Key"], found["Size"], found["ETag"].strip('"'))
                for found in page.get("Contents", [])
                if not found["Key"].endswith("/")  # placeholder of a folder
            ]
            folders += [found["Prefix"] for found in page.get("CommonPrefixes", [])]
            if not page.get("IsTruncated"):
                break
            arguments["ContinuationToken"] = page["NextContinuationToken"]
        names = tuple(name[len(prefix) :].rstrip("/") for name in folders)
        _listings[known] = Listing(tuple(objects), names)
    return _listings[known]


def objects(prefix: object) -> tuple[Object, ...]:
    """All objects below a folder, recursively; the listing is cached until `clear`."""
    return _list(f"{prefix}/", "").objects


def folder(prefix: object = "") -> Listing:
    """Objects and folders directly in a folder, ``""`` for the top; cached until `clear`."""
    return _list(f"{prefix}/" if str(prefix) else "", "/")


def subjects_in(prefix: object) -> list[str]:
    """Ids of the subjects that have a folder below a prefix."""
    return [name for name in folder(prefix).folders if name.startswith("sub-")]


def subjects() -> list[str]:
    """Ids of the subjects with betas, ROIs, localizers or time series in the bucket, sorted."""
    prefixes = (*SUBJECT_FOLDERS, *_OTHER_FOLDERS)
    return sorted({name for prefix in prefixes for name in subjects_in(prefix)})


def check_subject(subject: object) -> str:
    """Id of a subject in the bucket; `ValueError` with a list of subjects if it is not there."""
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
        if not parts:  # else return the bytes received; the next call raises the error again
            raise
    return b"".join(parts)


async def _close(body: Any) -> None:
    body.close()


def blocks(wanted: Object, start: int) -> Iterator[bytes]:
    """Yield the bytes of an object from position `start`, if it has the ETag that was listed.

    Raises
    ------
    Transient
        If a retry may succeed.
    LaionZarrError
        If the object is gone, has changed since it was listed, or is refused.
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
