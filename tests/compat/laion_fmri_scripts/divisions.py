"""Train and test sets of trials."""

import os

import numpy as np
import pandas as pd
from laion_fmri.config import dataset_initialize
from laion_fmri.splits import (
    get_split_masks,
    get_train_test_ids,
    list_ood_types,
    list_pools,
    list_splits,
    load_all_splits,
    load_split,
)
from laion_fmri.subject import load_subject

dataset_initialize(os.environ["DATA_DIR"])
sub = load_subject("sub-01")
sessions = sub.get_sessions()
betas = np.concatenate(list(sub.get_betas(session=sessions, roi="laionventral").values()), axis=0)
trials = pd.concat(list(sub.get_trial_info(session=sessions).values()), ignore_index=True)

train, test = get_split_masks(trials, "tau", pool="sub-01")
x_train, x_test = betas[train], betas[test]
by_label = get_split_masks(trials["label"], "cluster_k5_3", "sub-01")
by_list = get_split_masks(trials["label"].tolist(), name="random_2", pool="shared", variant_id=0)

_, ood = get_train_test_ids("ood", pool="shared")
_, cropped = get_train_test_ids("ood", pool="shared", ood_types=["cropped"])
without_ood = betas[~np.isin(trials["label"], ood)]

split = load_split("cluster_k5_3", pool="sub-01")
family = split.name, split.pool, split.split_family, split.n_train, split.n_test
variant = split.variants[0]
sizes = {name: (one.n_train, one.n_test) for name, one in load_all_splits("shared").items()}
listed = list_pools(), list_splits(), list_ood_types()
