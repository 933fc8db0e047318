"""Template spaces: `Subject.to_template` as a function, with numpy arrays and NIfTI images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laion_zarr.compat.subject import Subject

__all__ = ["to_template"]


def to_template(subject: Subject, values: Any, target: str, **options: Any) -> Any:
    """Carry values into a template space; calls ``subject.to_template``."""
    return subject.to_template(values, target, **options)
