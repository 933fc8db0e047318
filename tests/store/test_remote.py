"""Options for remote stores: when a bucket is read anonymously."""

from __future__ import annotations

import pytest

from laion_zarr.store import remote


@pytest.mark.parametrize(
    ("url", "given", "anonymous"),
    [
        ("s3://laion-fmri/store.zarr", {"anon": False}, True),
        ("s3://laion-fmri", {}, True),
        ("s3://laion-fmri-mylab/store.zarr", {}, None),
    ],
)
def test_only_the_releases_bucket_is_anonymous(url, given, anonymous):
    assert remote.options(url, given).get("anon") is anonymous
