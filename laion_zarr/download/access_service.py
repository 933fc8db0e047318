"""Client of the access service, which gives links to the stimulus images for an accepted DUA.

DUA is the Data Use Agreement. The request id, the links and the answers in the form are secrets:
no message, log or exception contains them. The environment variable ``LAION_ZARR_ACCESS_URL`` sets
the URL of another service, for tests.
"""

from __future__ import annotations

import json
import os
import re
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from laion_zarr import config
from laion_zarr.download.license import ask, can_ask
from laion_zarr.errors import AccessServiceError, TermsOutdatedError
from laion_zarr.store.retry import Transient, Unreachable, retrying

SERVICE = "https://laion-fmri.hebartlab.com"
DATASET_VERSION = "v1"
TIMEOUT = 30  # seconds
MIN_PURPOSE = 20  # characters
_BLOCK = 1 << 20
_TRIES = 3
_REQUEST = "Get access with 'laion-zarr request-access'"
# Fields of the form, in order: name, prompt, pattern of a valid answer, description of the pattern.
_FORM = (
    ("name", "Full name: ", r".+", "your name"),
    ("email", "Institutional e-mail: ", r"[^@\s]+@[^@\s]+\.[^@\s]+", "an e-mail address"),
    ("institution", "Institution: ", r".+", "your institution"),
    ("pi_or_supervisor", "PI or supervisor (Enter for none): ", r".*", ""),
    (
        "research_purpose",
        "Research purpose: ",
        rf".{{{MIN_PURPOSE},}}",
        f"at least {MIN_PURPOSE} characters",
    ),
)


class _TransientServiceError(AccessServiceError, Transient):
    """A temporary failure of the service."""


class _UnreachableServiceError(AccessServiceError, Unreachable):
    """No connection to the service."""


def service() -> str:
    """Base URL of the access service."""
    url = os.environ.get("LAION_ZARR_ACCESS_URL", SERVICE).rstrip("/")
    if not _is_safe(url):
        raise AccessServiceError(
            "LAION_ZARR_ACCESS_URL must start with https:// (or http://localhost). Mend or unset "
            "it."
        )
    return url


def _is_safe(url: str) -> bool:
    """Whether requests to a URL are private: encrypted (HTTPS), or sent to this machine."""
    parts = urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    return parts.scheme == "https" or (parts.scheme == "http" and local)


# -- requests; errors are raised outside of `except`, so that none refers to an error with secrets


def _open(request: urllib.request.Request) -> HTTPResponse | HTTPError | str:
    """Send a request and return the response, whatever its status, or why there is none."""
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        return error
    except URLError as error:
        reason = error.reason
        return getattr(reason, "strerror", None) or type(reason).__name__
    except (OSError, HTTPException) as error:
        return error.strerror or type(error).__name__ if isinstance(error, OSError) else "no HTTP"


def _read(answer: HTTPResponse | HTTPError) -> bytes | None:
    try:
        with answer:
            return answer.read()
    except (OSError, HTTPException):
        return None


def _ask_service(path: str, payload: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Send a request to the service, with a JSON payload if any, and return its JSON answer."""
    base = service()
    data = None if payload is None else json.dumps(payload).encode()
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    answer = _open(urllib.request.Request(f"{base}/api/v1/{path}", data, headers))
    if isinstance(answer, str):
        raise _UnreachableServiceError(
            f"The access service at {base} cannot be reached ({answer}). Check the network "
            "connection and, behind a proxy, HTTPS_PROXY; then run the same again."
        )
    status, body = answer.status or 0, _read(answer)
    found = _parse(body)
    if status != 200:
        raise _refusal(status, found, answer.headers.get("Retry-After"))
    if found is None:
        raise _TransientServiceError(
            f"The access service at {base} gave an answer that cannot be read. Run the same again "
            "later."
        )
    return found


def _parse(body: bytes | None) -> dict[str, Any] | None:
    try:
        found = json.loads(body or b"")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _refusal(status: int, body: dict[str, Any] | None, retry_after: str | None) -> Exception:
    """Error for an HTTP status; its message quotes nothing of the body that may be secret."""
    detail = (body or {}).get("detail", "")
    if status == 403 and isinstance(detail, dict) and detail.get("error") == "terms_outdated":
        return TermsOutdatedError(
            f"The terms of use of the stimulus images have changed (version "
            f"{_plain(detail.get('current_terms_version'))}). Accept them at "
            f"{_accept_page(detail.get('accept_url'))}, then run the same again."
        )
    if status == 403 and "revoked" in str(detail).lower():
        return AccessServiceError(
            "Your access to the stimulus images was revoked. Write to the contact named at "
            f"{service()}/takedown, or request access again with 'laion-zarr request-access'."
        )
    if status == 404:
        return AccessServiceError(
            f"The access service does not know your request id ({_where_kept()}). {_REQUEST}."
        )
    if status == 429:
        wait = f" in {retry_after} seconds" if (retry_after or "").isdigit() else " later"
        return AccessServiceError(
            f"The access service takes no more requests for now (HTTP 429). Run the same again"
            f"{wait}."
        )
    if status >= 500:
        return _TransientServiceError(
            f"The access service at {service()} fails (HTTP {status}). Run the same again later."
        )
    return AccessServiceError(
        f"The access service refused the request (HTTP {status}){_wrong_fields(detail)}. "
        f"{_REQUEST}."
    )


def _plain(value: object) -> str:
    """A version number for a message, or "unknown" if it contains unexpected characters."""
    text = str(value)
    return text if re.fullmatch(r"[\w.\-]{1,40}", text) else "unknown"


def _accept_page(url: object) -> str:
    """URL of the page with new terms, without its query, which may hold the request id."""
    text = str(url)
    return text.partition("?")[0] if _is_safe(text) else f"{service()}/terms/accept"


def _wrong_fields(detail: object) -> str:
    """Text with the names, not the values, of the form fields that the service refused."""
    places = (
        [entry.get("loc", ()) for entry in detail if isinstance(entry, dict)]
        if (isinstance(detail, list))
        else []
    )
    known = {name for name, *_ in _FORM}
    wrong = sorted({str(word) for place in places for word in place} & known)
    return f": check {', '.join(wrong)}" if wrong else ""


# -- the request id


def id_file() -> Path:
    """Path of the file that keeps the request id, readable only by its owner."""
    return config.config_file().with_name("access.json")


def _where_kept() -> str:
    in_environment = os.environ.get("LAION_FMRI_REQUEST_ID", "").strip()
    return "from LAION_FMRI_REQUEST_ID" if in_environment else f"from {id_file()}"


def _request_id() -> str | None:
    """Request id from ``LAION_FMRI_REQUEST_ID``, else the id kept for this service, or None."""
    if given := os.environ.get("LAION_FMRI_REQUEST_ID", "").strip():
        return given
    try:
        kept = _parse(id_file().read_bytes()) or {}
    except FileNotFoundError:
        return None
    found = kept.get("request_id")
    return found if isinstance(found, str) and kept.get("service") == service() else None


def _keep_id(request_id: str) -> None:
    path = id_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(partial, flags, 0o600), "w", encoding="utf-8") as file:
        json.dump({"service": service(), "request_id": request_id}, file)
    partial.replace(path)


# -- the form


def _answer(prompt: str, pattern: str, expected: str) -> str:
    for _ in range(_TRIES):
        given = ask(prompt)
        if given is None:
            break
        if re.fullmatch(pattern, given):
            return given
        print(f"Please give {expected}.")
    raise AccessServiceError(f"The request was not filled in, and nothing was sent. {_REQUEST}.")


def request_access() -> None:
    """Ask the user for the fields of the form, send them, and keep the request id."""
    if not can_ask():
        raise AccessServiceError(
            f"The form needs somebody to fill it in. Run 'laion-zarr request-access' at a "
            f"terminal, or fill it in at {service()}/request and set LAION_FMRI_REQUEST_ID."
        )
    manifest = retrying(lambda: _ask_service("manifest"))
    terms = manifest.get("current_terms_version")
    if not isinstance(terms, str) or not terms.isprintable():
        raise AccessServiceError(
            f"The access service at {service()} names no version of its terms. Run the same again "
            "later."
        )
    print(
        "Request for access to the stimulus images of LAION-fMRI.\n"
        f"Terms of use: {service()}/terms\nPrivacy: {service()}/privacy\n"
        "Name nobody but yourself and your supervisor. The purpose takes "
        f"{MIN_PURPOSE} characters or more."
    )
    form: dict[str, Any] = {
        name: _answer(prompt, pattern, expected) or None
        for name, prompt, pattern, expected in _FORM
    }
    prompt = f'Type "I AGREE" to accept the terms of use, version {terms}: '
    if ask(prompt) != "I AGREE":
        raise AccessServiceError(f"The terms were not accepted, and nothing was sent. {_REQUEST}.")
    form |= {"accepted_terms": True, "terms_version": terms, "source": "cli"}
    # Not retried: if the first try reached the service, a retry would be a second request.
    granted = _ask_service("access/request", form)
    request_id = granted.get("request_id")
    if not isinstance(request_id, str) or not request_id:
        raise AccessServiceError(f"The access service sent no request id. {_REQUEST} again, later.")
    _keep_id(request_id)
    print(f"Access granted. The request id is kept in {id_file()}, for you alone.")


def ensure_access() -> None:
    """Make sure that a request id exists; without one, ask the user to fill in the form."""
    if _request_id() is not None:
        return
    if not can_ask():
        raise AccessServiceError(
            "The stimulus images need an accepted Data Use Agreement. Run 'laion-zarr "
            "request-access' at a terminal, or set LAION_FMRI_REQUEST_ID."
        )
    request_access()


# -- links


@dataclass(frozen=True)
class Link:
    """Link to one file of the service, with the size in bytes and the SHA-256 of the file."""

    name: str
    size: int
    sha256: str
    url: str = field(repr=False)


def _as_link(entry: Any) -> Link:
    link = Link(entry["name"], int(entry["size"]), entry["sha256"].lower(), entry["url"])
    if not _is_safe(link.url) or not re.fullmatch(r"[0-9a-f]{64}", link.sha256) or link.size < 0:
        raise ValueError
    return link


def _as_links(files: Any) -> dict[str, Link] | None:
    try:
        return {link.name: link for link in map(_as_link, files)}
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


class Links:
    """Links of an accepted request, by file name; they expire soon and are refreshed as needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._links = self._ask()

    @staticmethod
    def _ask() -> dict[str, Link]:
        payload = {"request_id": _request_id(), "dataset_version": DATASET_VERSION}
        links = _as_links(retrying(lambda: _ask_service("refresh", payload)).get("files"))
        if links is None:
            raise AccessServiceError(
                f"The access service at {service()} sent a list of files that cannot be read. "
                "Update with 'pip install --upgrade laion-zarr', or run the same again later."
            )
        return links

    def __getitem__(self, name: str) -> Link:
        return self._links[name]

    def __contains__(self, name: object) -> bool:
        return name in self._links

    def _refresh(self, expired: Link) -> Link:
        with self._lock:
            if self._links.get(expired.name) is expired:  # else another thread refreshed it
                self._links = self._ask()
            link = self._links.get(expired.name)
        if link is None or (link.size, link.sha256) != (expired.size, expired.sha256):
            raise AccessServiceError(f"{expired.name} has changed. Run the same again.")
        return link

    def blocks(self, name: str, start: int) -> Iterator[bytes]:
        """Yield the bytes of a file from position `start`; an expired link is refreshed once."""
        link = self._links[name]
        answer = _get(link, start)
        if answer is None:
            answer = _get(self._refresh(link), start)
        if answer is None:
            raise AccessServiceError(
                f"The link to {name} was refused, and a new one, too. Run the same again later; if "
                "that does not help, get access anew with 'laion-zarr request-access'."
            )
        with answer:
            skip = start if answer.status == 200 else 0  # 200: the whole file, not the range
            while data := _block(answer, name):
                yield data[skip:]
                skip = max(0, skip - len(data))


def _get(link: Link, start: int) -> HTTPResponse | None:
    """Response to a request of a link; None if the link has expired."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    answer = _open(urllib.request.Request(link.url, headers=headers))
    if isinstance(answer, str):
        raise _UnreachableServiceError(
            f"The server of {link.name} cannot be reached ({answer}). Check the network "
            "connection, then run the same again."
        )
    status = answer.status or 0
    if isinstance(answer, HTTPResponse) and status in (200, 206):
        return answer
    answer.close()
    if status in (400, 401, 403):
        return None
    kind = _TransientServiceError if status >= 500 or status in (408, 429) else AccessServiceError
    raise kind(f"The server of {link.name} answers HTTP {status}. Run the same again later.")


def _block(answer: HTTPResponse, name: str) -> bytes:
    try:
        return answer.read(_BLOCK)
    except (OSError, HTTPException):
        pass
    raise _TransientServiceError(f"{name} was cut off. Run the same again.")
