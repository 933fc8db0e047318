"""The part ``trials`` of a subject: made again when what it is made from has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from laion_zarr import _release as release
from laion_zarr.conversion.options import Report
from laion_zarr.conversion.parts import events as recipe
from laion_zarr.conversion.parts.events import Mismatch, Run, table_name
from laion_zarr.conversion.parts.subject import Sources, write_trials
from laion_zarr.conversion.source.files import Source
from laion_zarr.conversion.write.catalogue import Catalogue
from laion_zarr.errors import SourceError
from laion_zarr.store import schema
from laion_zarr.store.parts import Part, StoredParts
from laion_zarr.store.schema import EVENTS_PART, TRIALS_PART

# Stimulus metadata (None if there are none), and the fingerprint of the part that holds them.
Stimuli = tuple[pd.DataFrame | None, Sources]
Tables = Mapping[str, pd.DataFrame]  # trial table of each session


def with_trials(
    catalogue: Catalogue, parts: Mapping[str, Part], tables: Tables, stimuli: Stimuli, anew: bool
) -> Mapping[str, Part]:
    """Add the trials to new parts, if sessions, events or stimulus metadata changed, or `anew`.

    `tables` are the trial tables of sessions converted in this run; for any other session, the
    table that is stored beside its betas is used.
    """
    whole = {**catalogue.parts, **parts}
    sessions = sorted(filter(schema.is_session_part, whole))
    metadata, made_from = stimuli
    joined = [*sessions, *([EVENTS_PART] if EVENTS_PART in whole else [])]
    made_from = made_from | {name: whole[name].fingerprint for name in joined}
    stored = catalogue.parts.get(TRIALS_PART)
    if not sessions or not (anew or stored is None or dict(stored.sources) != made_from):
        return parts
    found = _reader(catalogue, parts)
    ours = {ses: tables[ses] if ses in tables else stored_table(found, ses) for ses in sessions}
    behaviour = None
    if EVENTS_PART in whole:
        events = recipe.load_events(found)
        behaviour = recipe.behaviour_of(recipe.join(_labels(ours), events), events)
    path = catalogue.place(TRIALS_PART)
    trials = write_trials(catalogue.store, path, ours, metadata, behaviour, made_from)
    return {**parts, TRIALS_PART: trials}


def _reader(catalogue: Catalogue, parts: Mapping[str, Part]) -> StoredParts:
    """Reader of the listed parts, and of parts that are written and not yet listed."""
    stored = StoredParts(catalogue.store, catalogue.group)
    stored.parts.update(parts)
    return stored


def stored_table(stored: StoredParts, session: str) -> pd.DataFrame:
    """Read a session's trial table from the store."""
    (attributes,) = stored.attributes(session)
    arrays = attributes["tsv_columns"]
    found = stored.load(session, arrays.values())
    return pd.DataFrame({column: found[array] for column, array in arrays.items()})


def _labels(tables: Tables) -> pd.DataFrame:
    columns = {"session": "session", "run": "run", "label": "image_name"}
    frames = [table[list(columns)] for _, table in sorted(tables.items())]
    return pd.concat(frames, ignore_index=True).rename(columns=columns)


# -- what the report says of events and trials


def note_images(catalogue: Catalogue, report: Report) -> None:
    """Report trials whose label is no image of the stored metadata."""
    if TRIALS_PART not in catalogue.parts:
        return
    stored = StoredParts(catalogue.store, catalogue.group)
    if "stim_idx" in catalogue.parts[TRIALS_PART].arrays():
        found = stored.load(TRIALS_PART, ["session", "image_name", "stim_idx"])
        _note_strangers(report, catalogue.group, pd.DataFrame(found), found["stim_idx"] < 0)


def note_labels(report: Report, subject: str, tables: Tables, images: Sequence[str] | None) -> None:
    """Report trials of trial tables whose label is none of the images; None are no metadata."""
    if tables and images is not None:
        labels = _labels(tables)
        _note_strangers(report, subject, labels, ~labels["image_name"].isin(images).to_numpy())


def _note_strangers(
    report: Report, subject: str, trials: pd.DataFrame, strange: np.ndarray
) -> None:
    if strange.any():
        some = trials[strange]
        sessions = ", ".join(some["session"].unique())
        report.missing.append(
            f"{subject}: {len(some):,} of {len(trials):,} trials (in {sessions}) have a label that "
            f"is no image of {release.STIMULUS_METADATA}, such as {some['image_name'].iloc[0]!r}; "
            "they are joined to no image. Compare both files with the release's: letters, blanks, "
            "endings."
        )


def note_behaviour(catalogue: Catalogue, source: Source, report: Report) -> None:
    """Report runs whose events and trials disagree, and runs that have events or trials alone."""
    if EVENTS_PART not in catalogue.parts:
        return
    stored, subject = StoredParts(catalogue.store, catalogue.group), catalogue.group
    events = recipe.load_events(stored)
    trials = pd.DataFrame({name: [] for name in ("session", "run", "image_name")})
    if TRIALS_PART in catalogue.parts:
        trials = pd.DataFrame(stored.load(TRIALS_PART, trials.columns))
    joined = recipe.join(trials, events)
    for mismatch in joined.mismatches:
        what = f"{subject} {EVENTS_PART} {table_name(*mismatch.run)}"
        report.failed.setdefault(what, _disagreement(source, subject, mismatch))
    if joined.without_events:
        report.missing.append(
            f"{subject}: no events of {_named(joined.without_events, trials)}, whose trials have "
            f"no behaviour. Download them: laion-zarr download-raw --subject {subject} --suffix "
            "events."
        )
    if joined.without_trials:
        with_events = pd.DataFrame({name: events[name] for name in ("session", "run")})
        report.missing.append(
            f"{subject}: events of {_named(joined.without_trials, with_events)} belong to no "
            "betas in the store; they are kept, and joined to no trial. Download the betas: "
            f"laion-zarr download --subject {subject}."
        )


def _named(runs: Sequence[Run], table: pd.DataFrame) -> str:
    """Name runs; sessions of which they are all that a table has by the session alone."""
    there = table.groupby("session")["run"].unique()
    names = []
    for session in dict.fromkeys(session for session, _ in runs):
        own = [run for run in runs if run[0] == session]
        whole = len(own) == len(there[session])
        names += [session] if whole else [table_name(*run) for run in own]
    return ", ".join(names)


def _disagreement(source: Source, subject: str, mismatch: Mismatch) -> SourceError:
    session, run = mismatch.run
    events = source.full(str(release.events(subject, session, run)))
    trials = source.full(str(release.trials(subject, session)))
    expected = "no further image" if mismatch.expected is None else repr(mismatch.expected)
    found = "the end of the table" if mismatch.found is None else repr(mismatch.found)
    return SourceError(
        f"{events}: expected {expected} in row {mismatch.row}, as in the trials of run {run} in "
        f"{trials}, found {found}. The events of this run are kept, but joined to no trial. "
        f"Download both files again (laion-zarr download --subject {subject} --ses {session}; "
        f"laion-zarr download-raw --subject {subject} --suffix events) and run the same command: "
        "what is converted already is kept."
    )
