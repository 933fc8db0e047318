"""The dataset's licence: shown once, accepted once, and kept in the user's config directory.

And how the user is asked for it, at a terminal or in a notebook; the form of the access service
(`access_service`) is filled in the same way.
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
    """Whether somebody can answer: at a terminal, or in a notebook that shows an input field."""
    is_terminal = sys.stdin is not None and sys.stdin.isatty()
    return is_terminal or "ipykernel" in sys.modules


def ask(prompt: str) -> str | None:
    """What was typed; None where nobody answers."""
    try:
        return input(prompt).strip()
    except (EOFError, NotImplementedError):  # the second: a notebook that runs unattended
        return None


def _kept() -> Path:
    return config.config_file().with_name("license.json")


def is_accepted() -> bool:
    """Whether the licence was accepted before."""
    return _kept().exists()


def keep() -> None:
    """Remember that the licence is accepted."""
    path = _kept()
    path.parent.mkdir(parents=True, exist_ok=True)
    accepted = {"license": "CC0-1.0", "accepted": datetime.now(UTC).isoformat(timespec="seconds")}
    path.write_text(json.dumps(accepted) + "\n", encoding="utf-8")


def ask_once() -> None:
    """Show the licence to whoever has not accepted it, and ask.

    Raises
    ------
    LicenseNotAcceptedError
        If anything but ``I AGREE`` is typed, or there is nobody to ask.
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
    """Ask where there is somebody to ask; elsewhere the call itself is the acceptance."""
    if can_ask():
        ask_once()
    elif not is_accepted():
        print(TEXT)
        keep()
