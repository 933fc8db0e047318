"""Asking whoever sits at the terminal, or in a notebook."""

from __future__ import annotations

import sys


def can_ask() -> bool:
    """Whether there is someone to ask: a terminal, or a notebook that shows an input field."""
    is_terminal = sys.stdin is not None and sys.stdin.isatty()
    return is_terminal or "ipykernel" in sys.modules


def ask(prompt: str) -> str | None:
    """What was typed; None where nobody answers."""
    try:
        return input(prompt).strip()
    except (EOFError, NotImplementedError):  # the second: a notebook that runs unattended
        return None
