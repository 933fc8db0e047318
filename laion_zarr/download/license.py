"""The dataset's licence: shown and accepted once; recorded in the user's config directory.

`ask` asks the user at a terminal or in a notebook; `access_service` uses it for its form, too.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from laion_zarr import config
from laion_zarr.errors import LicenseNotAcceptedError

TEXT = """\
LAION-fMRI: licence of the dataset (CC0 1.0 Universal)

The brain images and all that is derived from them are dedicated to the public domain under
Creative Commons Zero: copy, change, share and use them for any purpose, without asking.
Full text: https://creativecommons.org/publicdomain/zero/1.0/legalcode

The stimulus images are NOT under CC0. They need an accepted Data Use Agreement:
'laion-zarr request-access'.
"""
AGREEMENT = "I AGREE"


def can_ask() -> bool:
    """Whether a user can answer: at a terminal, or in a notebook, which shows an input field."""
    is_terminal = sys.stdin is not None and sys.stdin.isatty()
    return is_terminal or "ipykernel" in sys.modules


def ask(prompt: str) -> str | None:
    """Show a prompt and return the answer; None if no user can answer."""
    try:
        return input(prompt).strip()
    except (EOFError, NotImplementedError):  # NotImplementedError: a notebook run unattended
        return None


def _kept() -> Path:
    return config.config_file().with_name("license.json")


def is_accepted() -> bool:
    """Whether the licence was accepted before."""
    return _kept().exists()


def keep() -> None:
    """Record in the config directory that the licence is accepted."""
    path = _kept()
    path.parent.mkdir(parents=True, exist_ok=True)
    accepted = {"license": "CC0-1.0", "accepted": datetime.now(UTC).isoformat(timespec="seconds")}
    path.write_text(json.dumps(accepted) + "\n", encoding="utf-8")


def ask_once() -> None:
    """Show the licence and ask for its acceptance, unless it was accepted before.

    Raises
    ------
    LicenseNotAcceptedError
        If the answer is not ``I AGREE``, or no user can answer.
    """
    if is_accepted():
        return
    print(TEXT)
    answer = ask(f'Type "{AGREEMENT}" to accept: ') if can_ask() else None
    if answer != AGREEMENT:
        raise LicenseNotAcceptedError(
            f'The licence of the dataset was not accepted: type "{AGREEMENT}" when asked. Where '
            "nobody can type, pass --accept-license to 'laion-zarr download', or call "
            "laion_zarr.download.accept_license()."
        )
    keep()


def accept() -> None:
    """Ask the user if one can answer; otherwise the call itself is the acceptance."""
    if can_ask():
        ask_once()
    elif not is_accepted():
        print(TEXT)
        keep()
