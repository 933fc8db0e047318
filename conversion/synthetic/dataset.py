"""A synthetic dataset in the exact layout of the LAION-fMRI release: for tests, demos, benchmarks.

All values come from formulas and seeded random numbers, so every machine makes the same dataset.
The values of a file depend only on its subject, its session and the size of the dataset, not on
which other files are made.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from laion_zarr import _release as release
from laion_zarr.conversion.synthetic import freesurfer, localizer_files, time_series
from laion_zarr.conversion.synthetic import stimulus_files as files
from laion_zarr.conversion.synthetic.folder import NOTE, Folder
from laion_zarr.conversion.synthetic.model import behaviour, cortex, experiment, phantom, responses
from laion_zarr.conversion.synthetic.model.experiment import SIZES, Size
from laion_zarr.errors import SubjectNotFoundError
from laion_zarr.store.schema import EVENT_ARRAYS

__all__ = ["SIZES", "Size", "write_dataset"]

_PERCENT = {"Units": "percent"}
_BETAS_SIDECAR = {
    "Description": "Synthetic single-trial estimates, one volume per trial",
    "Units": "percent signal change",
    "TaskName": "images",
    "RepetitionTime": 1.9,
}
_TRIALS_SIDECAR = {
    "session": {"Description": "Session"},
    "run": {"Description": "Run within the session, from 1"},
    "beta_index": {"Description": "Volume of the betas, from 0"},
    "label": {"Description": "File name of the stimulus"},
}
_EVENTS_SIDECAR = {
    name: {"Description": spec.description} | ({"Units": spec.units} if spec.units else {})
    for name, spec in EVENT_ARRAYS.items()
    if name not in _TRIALS_SIDECAR
}
_SESSION_SIDECARS: dict[str, dict[str, object]] = {
    "session_noise_ceiling": {**_PERCENT, "Description": "Noise ceiling within the session"},
    "r2": {**_PERCENT, "Description": "Variance explained"},
    "hrf_index": {"Description": "Chosen response of the library, 0-19"},
    "fracridge": {"Description": "Ridge fraction"},
}


def _write_anatomy(folder: Folder, model: responses.Model) -> None:
    """Write T1w, T2w and brain mask at full and at functional resolution; the FreeSurfer recon."""
    size, subject = model.size, model.subject
    fine = phantom.Grid(size.anatomy_shape, size.anatomy_mm)
    scans = {
        None: (fine, phantom.scan(phantom.Head.of(subject), fine), np.int16),
        release.FUNCTIONAL_RES: (size.grid, model.anatomy, np.float32),
    }
    for res, (grid, scan, dtype) in scans.items():
        for kind, values in {"t1w": scan.t1w, "t2w": scan.t2w}.items():
            path = release.anatomy(subject, kind, res)
            about = {"Modality": "MR", "MagneticFieldStrength": 3, "SkullStripped": False}
            folder.volume(path, grid, values.round().astype(dtype), about)
        path = release.anatomy(subject, "brain_mask", res)
        folder.volume(path, grid, scan.brain.astype(np.uint8), {"Type": "Brain"})
    _write_recon(folder, model, fine, scans[None][1].t1w)


def _write_recon(
    folder: Folder, model: responses.Model, grid: phantom.Grid, t1w: phantom.Volume
) -> None:
    """Write the FreeSurfer recon of a T1w image."""
    size, subject, head = model.size, model.subject, phantom.Head.of(model.subject)
    cube = freesurfer.geometry(size, subject)
    folder.packed(release.recon_volume(subject), [freesurfer.orig(cube, grid, t1w)])
    freesurfer.write_surfaces(folder.root, head, size, cube)
    folder.text(release.recon_talairach(subject), freesurfer.talairach(head, cube))


def _label_text(subject: str, vertices: NDArray, mask: phantom.Mask) -> str:
    """Text of a FreeSurfer label: vertex, position in mm and value, one line per vertex."""
    lines = [f"#!ascii label  , from subject {subject} vox2ras=TkReg", str(mask.sum())]
    for vertex in np.flatnonzero(mask):
        x, y, z = vertices[vertex]
        lines.append(f"{vertex}  {x:.3f}  {y:.3f}  {z:.3f} 1.0000000000")
    return "\n".join(lines) + "\n"


def _write_regions(folder: Folder, model: responses.Model) -> None:
    """Write each region as volume and, per hemisphere, as surface map and label."""
    subject, head = model.subject, phantom.Head.of(model.subject)
    centre = freesurfer.geometry(model.size, subject).centre
    for name, mask in model.regions.items():
        path = release.roi_volume(subject, cortex.REGIONS[name].category, name)
        about = {"Type": "ROI", "Label": name, "Space": "T1w"}
        folder.volume(path, model.size.grid, mask.astype(np.uint8), about)
    for hemi, frequency in zip(release.HEMIS, model.size.sphere, strict=True):
        vertices = cortex.surface(head, hemi, frequency)
        for name, mask in cortex.region_vertices(head, hemi, vertices).items():
            category = cortex.REGIONS[name].category
            gifti, label = (
                release.roi_surface(subject, category, name, hemi, extension)
                for extension in release.SURFACE_FORMATS
            )
            folder.text(gifti, localizer_files.gifti(hemi, mask))
            folder.sidecar(gifti, {"Type": "ROI", "Label": name, "Space": "fsnative"})
            folder.text(label, _label_text(subject, vertices - centre, mask))


def _write_trials(folder: Folder, size: Size, subject: str, session: str) -> None:
    table = experiment.trial_table(size, subject, session)
    if session == size.sessions[-1]:
        # `beta_index` assigns the volumes to the trials, so the rows may have any order.
        table = table.sample(frac=1, random_state=phantom.stream(subject, session, "rows"))
    path = release.trials(subject, session)
    folder.table(path, table, "\t")
    folder.sidecar(path, _TRIALS_SIDECAR)
    for run, events in behaviour.events_tables(size, subject, session).items():
        path = release.events(subject, session, run)
        folder.table(path, events, "\t")
        folder.sidecar(path, _EVENTS_SIDECAR)


def _write_session(
    folder: Folder,
    model: responses.Model,
    session: str,
    betas: responses.Betas,
    progress: bool,
) -> None:
    """Write the files of one session: trial table, events, betas and maps."""
    size, subject = model.size, model.subject
    _write_trials(folder, size, subject, session)
    path = release.betas(subject, session)
    rows = tqdm(betas, f"{subject} {session} file", disable=not progress)
    shape = (*size.shape, len(betas))
    folder.series(path, size.grid, shape, (model.in_file_order(row) for row in rows))
    folder.sidecar(path, {**_BETAS_SIDECAR, "NumberOfTrials": len(betas)})
    trials = experiment.trial_table(size, subject, session)
    maps = {
        "session_noise_ceiling": model.volume(responses.session_ceiling(betas, trials)),
        "r2": model.volume(responses.r_squared(model, session)),
        **responses.fit_maps(model, session),
    }
    for name, values in maps.items():
        path = release.session_map(subject, session, name)
        folder.volume(path, size.grid, values, _SESSION_SIDECARS[name])


def _write_subject(
    folder: Folder, size: Size, subject: str, sessions: Sequence[str], progress: bool
) -> None:
    model = responses.voxel_model(size, subject)
    _write_anatomy(folder, model)
    _write_regions(folder, model)
    localizer_files.write_localizers(folder, model)
    every = []
    for session in size.sessions:
        # Also of sessions that are not written: the maps across sessions need all betas.
        betas = responses.session_betas(model, session, progress)
        if session in sessions:
            _write_session(folder, model, session, betas, progress)
        if session in sessions and session == size.sessions[0]:
            time_series.write_bold(folder, model, session)
            time_series.write_scans(folder, subject, session)
        every.append(betas)
    labels = pd.concat(
        [experiment.trial_table(size, subject, session)["label"] for session in size.sessions],
        ignore_index=True,
    )
    for desc, values in responses.cross_session_ceilings(every, labels).items():
        path = release.noise_ceiling(subject, desc)
        folder.volume(path, size.grid, model.volume(values), _PERCENT)
    r2 = np.mean([responses.r_squared(model, session) for session in size.sessions], axis=0)
    folder.volume(release.r2mean(subject), size.grid, model.volume(r2), _PERCENT)


def _write_root(folder: Folder) -> None:
    """Write the files of the whole dataset: README, descriptions, table of participants."""
    top = PurePosixPath()
    folder.text(top / "README", NOTE + "\n")
    folder.description(top, "LAION-fMRI (synthetic)", "raw")
    derivatives = (release.GLM, release.ROIS, release.ANATOMY, release.LOCALIZERS, release.TEDANA)
    for derivative in (*derivatives, release.FREESURFER):
        folder.description(derivative, derivative.name, "derivative")
    people = pd.DataFrame({"participant_id": release.SUBJECTS})
    people = people.assign(age="n/a", sex="n/a", handedness="n/a")
    folder.table(top / release.PARTICIPANTS, people, "\t")


def _write_stimuli(folder: Folder, size: Size, progress: bool) -> None:
    """Write the images of all subjects, their metadata, embeddings, masks and captions."""
    folder.table(release.STIMULUS_METADATA, experiment.metadata(size), ",")
    files.write_images(folder.target(release.STIMULUS_IMAGES), size, progress)
    for model in files.MODELS:
        files.write_embeddings(folder.target(release.embeddings(model)), size, model)
    table = files.write_masks(folder.target(release.SEGMENTATIONS), size, progress)
    folder.table(release.SEGMENTATION_TABLE, table, ",")
    folder.table(release.CAPTIONS, files.captions(size), ",")


def _known(
    kind: str, wanted: Iterable[str], known: Iterable[str], error: type[ValueError] = ValueError
) -> list[str]:
    """List the wanted names; raise `error` if one of them is not a known name."""
    wanted, known = list(wanted), list(known)
    for name in wanted:
        if name not in known:
            raise error(f"No {kind} {name!r} can be made. Choose from {', '.join(known)}.")
    return wanted


def write_dataset(
    root: str | os.PathLike[str],
    size: str | Size = "demo",
    subjects: Sequence[str] = ("sub-01",),
    sessions: Sequence[str] | None = None,
    progress: bool = False,
) -> Path:
    """Write a synthetic dataset in the layout of the release.

    Existing files of the same names are overwritten; other files in the folder are kept. The same
    arguments give the same bytes. With fewer subjects or sessions, fewer files are written, but
    each has the same bytes. The stimuli are always those of all subjects and sessions.

    Parameters
    ----------
    root : str or path
        Folder of the dataset; made if it does not exist.
    size : str or Size
        Key of `SIZES`, or a `Size`.
    subjects : sequence of str
        Subjects of the release to write, such as ``"sub-01"``.
    sessions : sequence of str, optional
        Sessions to write. If not provided, all sessions of the size.
    progress : bool
        Whether to show progress bars.

    Returns
    -------
    Path
        The folder of the dataset.
    """
    if isinstance(size, str):
        size = SIZES[_known("size", [size], SIZES)[0]]
    ids = map(release.subject_id, subjects)
    subjects = _known("subject", ids, release.SUBJECTS, SubjectNotFoundError)
    wanted = size.sessions if sessions is None else map(release.session_id, sessions)
    chosen = _known("session", wanted, size.sessions)
    folder = Folder(Path(root))
    _write_root(folder)
    _write_stimuli(folder, size, progress)
    for subject in subjects:
        _write_subject(folder, size, subject, chosen, progress)
    return folder.root
