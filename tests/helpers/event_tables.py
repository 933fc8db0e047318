"""Events tables written by hand for mirrors, and what trials have from them, by pandas alone."""

from __future__ import annotations

import numpy as np
import pandas as pd

BEHAVIOUR = (
    *("onset", "trial_type", "response", "response_correct", "response_changed", "response_time"),
    "stim_occurrence",
)


def events_file(sub, ses, run):
    return f"{sub}/{ses}/func/{sub}_{ses}_task-images_run-{run:02d}_events.tsv"


def events_of(labels, rng, n_blanks=1):
    """Events of one run, as text: the images in order, and blank trials anywhere."""
    n = len(labels)
    old = rng.random(n) < 0.5
    answers = pd.DataFrame(
        {
            "trial_type": np.where(old, "old", "new"),
            "response": rng.integers(1, 3, n),
            "response_correct": rng.integers(0, 2, n),
            "response_changed": rng.integers(0, 2, n),
            "response_time": rng.uniform(0.3, 2.9, n).round(4),
            "stim_name": labels,
            "stim_occurrence": rng.integers(1, 13, n),
        }
    ).astype(str)
    silent = rng.random(n) < 0.2
    answers.loc[silent, [c for c in answers if c.startswith("response")]] = "n/a"
    blank = pd.DataFrame("n/a", range(n_blanks), answers.columns)
    blank[["trial_type", "stim_name"]] = "blank"
    order = np.insert(np.arange(n), np.sort(rng.integers(0, n + 1, n_blanks)), -1)
    later = iter(range(n_blanks))
    rows = [blank.iloc[next(later)] if at < 0 else answers.iloc[at] for at in order]
    table = pd.DataFrame(rows).reset_index(drop=True)
    table.insert(0, "onset", [f"{12.049 + 3 * row:.3f}" for row in range(len(table))])
    table.insert(1, "duration", "3.0")
    return table


def put_events(root, table, sub, ses, run):
    path = root / events_file(sub, ses, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, sep="\t", index=False)
    return path


def trial_tables(root, sub):
    """Session -> trial table in volume order."""
    found = {}
    for path in sorted(root.glob(f"derivatives/glmsingle-tedana/{sub}/*/func/*_trials.tsv")):
        table = pd.read_csv(path, sep="\t", keep_default_na=False)
        found[path.parts[-3]] = table.sort_values("beta_index", ignore_index=True)
    return found


def write_events(root, sub, seed=0):
    """Events of every run of a subject's trial tables."""
    rng = np.random.default_rng(seed)
    for ses, table in trial_tables(root, sub).items():
        for run, own in table.groupby("run"):
            put_events(root, events_of(own["label"].tolist(), rng, 2), sub, ses, run)


def answer(root, sub, without=()):
    """Behaviour of all trials; NaN for runs without a file, and for (session, run) in `without`."""
    parts = []
    for ses, table in trial_tables(root, sub).items():
        for run, own in table.groupby("run"):
            found = pd.DataFrame(np.nan, own.index, list(BEHAVIOUR), dtype=object)
            path = root / events_file(sub, ses, run)
            if path.exists() and (ses, run) not in without:
                events = pd.read_csv(path, sep="\t")
                shown = events[events["stim_name"] != "blank"]
                assert shown["stim_name"].tolist() == own["label"].tolist()
                for name in set(BEHAVIOUR) & set(shown):
                    found[name] = shown[name].to_numpy(object)
            parts.append(found.assign(session=ses))
    every = pd.concat(parts).reset_index()
    return every.sort_values(["session", "index"], kind="stable").reset_index(drop=True)


def has_behaviour(subject, expected):
    """Metadata and coordinates of a subject say what is expected, NaN included."""
    dataset, metadata = subject.dataset, subject.metadata
    assert len(metadata) == len(expected)
    for name in BEHAVIOUR:
        assert dataset[name].dims == ("trial",)
        for values in (dataset[name].values, metadata[name].to_numpy(object)):
            both = zip(values, expected[name], strict=True)
            assert all(a == b or (pd.isna(a) and pd.isna(b)) for a, b in both), name
        if name != "trial_type":
            assert dataset[name].dtype == np.float64
