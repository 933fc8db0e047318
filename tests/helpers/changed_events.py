"""Events tables of a mirror whose trial tables have other labels than before."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def follow_trials(root: Path) -> None:
    """Give the events of all runs the image names that the trial tables have now."""
    for path in root.rglob("*_trials.tsv"):
        subject, session = path.name.split("_")[:2]
        trials = pd.read_csv(path, sep="\t").sort_values("beta_index")
        for run, its in trials.groupby("run"):
            name = f"{subject}_{session}_task-images_run-{run:02d}_events.tsv"
            events = root / subject / session / "func" / name
            if events.is_file():
                table = pd.read_csv(events, sep="\t", dtype=str, keep_default_na=False)
                table.loc[table["stim_name"] != "blank", "stim_name"] = its["label"].to_numpy()
                table.to_csv(events, sep="\t", index=False)
