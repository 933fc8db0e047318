"""Template spaces: methods of `Subject` as functions, with numpy arrays and NIfTI images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from laion_zarr._words import Template
    from laion_zarr.compat.subject import Subject

__all__ = ["surface_to_template", "to_template", "volume_to_surface", "volume_to_template"]


def to_template(subject: Subject, values: Any, target: Template, **options: Any) -> Any:
    """Carry values into a template space; calls ``subject.to_template``."""
    return subject.to_template(values, target, **options)


def volume_to_template(
    subject: Subject, values: Any, target: Literal["MNI305"], **options: Any
) -> Any:
    """Carry values of voxels into MNI305; calls ``subject.volume_to_template``."""
    return subject.volume_to_template(values, target, **options)


def volume_to_surface(
    subject: Subject, values: Any, target: Literal["fsaverage"] = "fsaverage", **options: Any
) -> Any:
    """Carry values of voxels to fsaverage; calls ``subject.volume_to_surface``."""
    return subject.volume_to_surface(values, target, **options)


def surface_to_template(
    subject: Subject, values: Any, target: Literal["fsaverage"] = "fsaverage", **options: Any
) -> Any:
    """Carry values of the subject's own surface to fsaverage; calls that method of `subject`."""
    return subject.surface_to_template(values, target, **options)
