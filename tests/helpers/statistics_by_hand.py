"""Statistics over repeats in plain numpy: voxel by voxel, image by image, in float64."""

from __future__ import annotations

import numpy as np


def scores(values, groups):
    """Z-scores of each column within groups, NaN left out; float64."""
    found = np.full(values.shape, np.nan)
    for group in set(groups):
        here = np.array([other == group for other in groups])
        part = values[here].astype(np.float64)
        for column in range(part.shape[1]):
            known = part[:, column][~np.isnan(part[:, column])]
            if len(known) and known.std() > 0:
                found[here, column] = (part[:, column] - known.mean()) / known.std()
    return found


def means_of(values, labels):
    names = sorted(set(labels))
    found = np.full((len(names), values.shape[1]), np.nan)
    for row, name in enumerate(names):
        mine = values[np.array([label == name for label in labels])].astype(np.float64)
        for column in range(values.shape[1]):
            known = mine[:, column][~np.isnan(mine[:, column])]
            if len(known):
                found[row, column] = known.mean()
    return names, found


def ceiling_of(values, labels):
    """Noise ceiling of each column of z-scores, voxel by voxel, image by image."""
    found = np.full(values.shape[1], np.nan)
    for column in range(values.shape[1]):
        variances, parts = [], []
        for name in set(labels):
            mine = values[np.array([label == name for label in labels]), column]
            if len(mine) > 1:
                parts.append(1 / len(mine))  # NaN or not, as in the release's maps
            mine = mine[~np.isnan(mine)]
            if len(mine) > 1:
                variances.append(mine.var(ddof=1))
        if variances:
            noise = np.mean(variances)
            signal = max(0, 1 - noise)
            if noise == 0:
                found[column] = 100
            else:
                snr = signal / noise
                found[column] = 100 * snr / (snr + np.mean(parts))
    return found


def reliability_of(values, labels):
    found = np.full(values.shape[1], np.nan)
    for column in range(values.shape[1]):
        halves = []
        for name in sorted(set(labels)):
            mine = values[np.array([label == name for label in labels]), column]
            if len(mine) > 1:
                pair = [half[~np.isnan(half)] for half in (mine[0::2], mine[1::2])]
                if all(map(len, pair)):
                    halves.append([half.mean() for half in pair])
        if len(halves) > 2:
            a, b = np.array(halves).T
            if a.std() > 0 and b.std() > 0:
                found[column] = np.corrcoef(a, b)[0, 1]
    return found
