"""Decide on a subject's voxel axis: as stored, extended, or new; reads the store, never writes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from zarr.abc.store import Store

from laion_zarr import _release as release
from laion_zarr._release import SubjectFiles
from laion_zarr.conversion.options import PROBLEMS, Options
from laion_zarr.conversion.parts import subject as recipe
from laion_zarr.conversion.parts.subject import Sources, VoxelAxis
from laion_zarr.conversion.planning.changes import identities, look_ahead, unchanged
from laion_zarr.conversion.source.files import Source
from laion_zarr.errors import DataNotDownloadedError, SourceError, StoreError
from laion_zarr.store import schema
from laion_zarr.store.parts import Part, StoredParts


@dataclass(frozen=True)
class ChosenAxis:
    """Voxel axis that a subject will have after the run.

    Attributes
    ----------
    axis : VoxelAxis
        The voxels, with masks, ROIs and noise ceilings.
    changed : bool
        Whether the axis must be written.
    reordered : bool
        Whether the stored parts are in another voxel order: then all of them must be written again
        and committed together.
    """

    axis: VoxelAxis
    changed: bool
    reordered: bool


def contested_rois(source: Source, files: SubjectFiles) -> dict[tuple[str, ...], SourceError]:
    """Errors of ROIs that several categories have, by the names of the ROIs."""
    shared: dict[tuple[str, ...], list[str]] = {}
    for roi, owners in files.contested.items():
        shared.setdefault(tuple(its.category for its in owners), []).append(roi)
    found = {}
    for categories, rois in shared.items():
        folders = [source.full(str(release.ROIS / files.subject / name)) for name in categories]
        found[tuple(rois)] = SourceError(
            f"{' and '.join(folders)}: expected one category with each ROI, found "
            f"{len(folders)}. Move away the files that are not of the release and run the same "
            "command: none of them is converted."
        )
    return found


@dataclass(frozen=True)
class AxisPlanner:
    """Chooses the voxel axis of a subject.

    Attributes
    ----------
    source : Source
        The mirror.
    names : frozenset of str
        Relative paths of the mirror's files.
    store : zarr.abc.store.Store
        The store.
    options : Options
        Options that the user gave.
    """

    source: Source
    names: frozenset[str]
    store: Store
    options: Options

    def plan(self, files: SubjectFiles, stored: Part | None) -> ChosenAxis:
        """Decide on the voxel axis of a subject.

        Parameters
        ----------
        files : SubjectFiles
            Files of the subject in the mirror.
        stored : Part or None
            The subject's part ``voxels`` in the store; None if the store does not have it.
        """
        old = None if stored is None else self._stored_axis(files.subject)
        mask = self.options.mask
        if stored is None and not recipe.mask_files(files, mask):
            raise self._no_mask(files, mask)
        ids, errors = self._look(files, mask)
        if stored is None or self.options.overwrite:
            if stored is not None:
                self._refuse_loss(files, stored)
                for error in contested_rois(self.source, files).values():
                    raise error
            axis = recipe.read_voxels(self.source, files, mask, ids)
            axis.errors |= errors
            if stored is not None and axis.errors:  # do not replace it by an incomplete axis
                raise next(iter(axis.errors.values()))
            axis.voxels = recipe.order_voxels(axis)
            reordered = stored is not None and not (
                old is not None and np.array_equal(old.voxels, axis.voxels)
            )
            return ChosenAxis(axis, True, reordered)
        assert old is not None
        if unchanged(stored, ids):
            old.errors |= errors
            return ChosenAxis(old, False, False)
        axis = self._extended(old, files, mask, ids)
        axis.errors |= errors
        return ChosenAxis(axis, True, False)

    def _stored_axis(self, subject: str) -> VoxelAxis | None:
        try:
            return recipe.restore_voxels(StoredParts(self.store, subject))
        except StoreError:  # damaged: only --overwrite may replace it
            if not self.options.overwrite:
                raise
            return None

    def _no_mask(self, files: SubjectFiles, mask: str) -> DataNotDownloadedError:
        paths = {
            "anatomical": release.anatomy(files.subject, "brain_mask", release.FUNCTIONAL_RES),
            "rsquare": release.r2mean(files.subject),
        }
        wanted = [str(path) for name, path in paths.items() if mask in (name, "both")]
        others = recipe.mask_files(files, "both")
        instead = "".join(f" Or convert with --mask {name}." for name in others)
        return DataNotDownloadedError(
            f"{files.subject} has no {mask if mask != 'both' else 'brain'} mask in "
            f"{self.source.root}, so its voxels cannot be chosen. Download "
            f"{' or '.join(wanted)}.{instead}"
        )

    def _look(self, files: SubjectFiles, mask: str) -> tuple[Sources, dict[str, Exception]]:
        """Identities of the files, and errors of unreadable files; an unreadable mask raises."""
        found: Sources = {}
        errors: dict[str, Exception] = {}
        paths = recipe.voxel_files(files, mask)
        look_ahead(self.source, self.names, paths.values())
        for what, path in paths.items():
            try:
                found |= identities(self.source, self.names, [path])
            except PROBLEMS as error:
                if what in schema.MASKS:
                    raise
                errors[what] = error
        return found, errors

    def _extended(self, old: VoxelAxis, files: SubjectFiles, mask: str, ids: Sources) -> VoxelAxis:
        if recipe.mask_files(files, mask):
            new = recipe.read_voxels(self.source, files, mask, ids)
        else:  # no mask in the mirror: new ROIs and noise ceilings must fit the stored grid
            new = VoxelAxis(old.grid)
            recipe.read_into(new, self.source, files, ids)
        return recipe.merge_voxels(old, new, files.subject)

    def _refuse_loss(self, files: SubjectFiles, stored: Part) -> None:
        """Refuse to overwrite voxels that were made from files that the mirror no longer has."""
        lost = [n for n in stored.sources if n not in self.names and not n.endswith(".json")]
        if lost:
            raise DataNotDownloadedError(
                f"--overwrite would lose what {self.source.root} no longer has: "
                f"{', '.join(sorted(lost)[:5])}. Download it first, or remove {files.subject} from "
                "the store."
            )
