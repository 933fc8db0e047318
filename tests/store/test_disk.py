"""A store in a folder: nothing outside of it is read, written or removed, whatever lies in it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore

from laion_zarr.errors import StoreError
from laion_zarr.store.disk import DiskStore
from laion_zarr.store.objects import Memory, fetch, fetch_spans, open_store

SECRET = b"outside"


@pytest.fixture
def places(tmp_path: Path) -> tuple[DiskStore, Path]:
    """A store with a file and a folder, and a folder beside it with the same names."""
    for name, content in (("store", b"inside!"), ("outside", SECRET)):
        (tmp_path / name / "group").mkdir(parents=True)
        (tmp_path / name / "group" / "object").write_bytes(content)
    return DiskStore(tmp_path / "store"), tmp_path / "outside"


def buffer(data: bytes):
    return default_buffer_prototype().buffer.from_bytes(data)


async def listed(names) -> list[str]:
    return sorted([name async for name in names])


def test_local_paths_and_zarrs_own_local_stores_are_contained(places, tmp_path):
    root = tmp_path / "store"
    for like in (root, str(root), f"file://{root}", LocalStore(root, read_only=True)):
        opened = open_store(like)
        assert type(opened) is DiskStore
        assert opened.root == root
        assert opened.read_only
    assert not open_store(LocalStore(root)).read_only
    again = pickle.loads(pickle.dumps(open_store(root)))
    assert fetch(again, ["group/object"]) == [b"inside!"]


@pytest.mark.parametrize("key", ["../outside/group/object", "/etc/passwd", "group/../../outside/x"])
def test_keys_that_lead_out_are_refused(places, key):
    store, outside = places
    for ask in (
        lambda: fetch(store, [key]),
        lambda: sync(store.set(key, buffer(b"x"))),
        lambda: sync(store.delete(key)),
        lambda: sync(store.delete_dir(key)),
        lambda: sync(listed(store.list_prefix(key))),
        lambda: sync(listed(store.list_dir(key))),
        lambda: store.get_sync(key),
    ):
        with pytest.raises(StoreError, match="is no place in the store"):
            ask()
    assert (outside / "group" / "object").read_bytes() == SECRET


def link(store: DiskStore, key: str, target: Path) -> None:
    path = store.root / key
    if path.is_dir():
        (path / "object").unlink()
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize("key", ["group", "group/object"])
def test_links_that_lead_out_are_refused_by_name(places, key):
    store, outside = places
    link(store, key, outside / key)
    for ask in (
        lambda: fetch(store, ["group/object"]),
        lambda: fetch(store, ["group/object"], [4]),
        lambda: fetch_spans(store, [("group/object", (0, 4))], Memory()),
        lambda: store.get_sync("group/object"),
        lambda: sync(store.getsize("group/object")),
    ):
        with pytest.raises(
            StoreError, match=f"{store.root / key} is a link to .*outside"
        ) as caught:
            ask()
        assert "'laion-zarr verify" in str(caught.value)


def test_links_that_stay_inside_are_followed(places):
    store, _ = places
    (store.root / "other").symlink_to(store.root / "group")
    (store.root / "group" / "same").symlink_to("object")
    assert fetch(store, ["other/object", "group/same", "other/same"]) == [b"inside!"] * 3
    assert sync(listed(store.list())) == ["group/object", "group/same"]
    linked = DiskStore(store.root.parent / "linked")
    linked.root.symlink_to(store.root)  # the store itself may be a link
    assert fetch(linked, ["other/same"]) == [b"inside!"]


def test_what_is_no_file_is_refused_without_waiting(places):
    store, _ = places
    os.mkfifo(store.root / "pipe")
    with pytest.raises(StoreError, match="pipe"):
        fetch(store, ["pipe"])
    (store.root / "circle").symlink_to("circle")
    with pytest.raises(StoreError, match="circle"):
        fetch(store, ["circle"])
    assert fetch(store, ["group", "absent", "absent/x", "group/object/x"]) == [None] * 4


@pytest.mark.parametrize("most", [0, 3, 6, 7, 100])
def test_no_more_is_read_than_one_byte_above_what_is_expected(places, most):
    store, _ = places
    assert fetch(store, ["group/object"], [most]) == [b"inside!"[: most + 1]]
    with (store.root / "hole").open("wb") as file:
        file.truncate(1 << 40)
    assert fetch(store, ["hole"], [most]) == [bytes(most + 1)]


@pytest.mark.parametrize("span", [(0, 7), (2, 5), (2, 1 << 60), (7, 9), (100, 1 << 60)])
def test_spans_end_with_the_file(places, span):
    store, _ = places
    (alone,) = fetch_spans(store, [("group/object", span)], Memory())
    assert alone.tobytes() == b"inside!"[slice(*span)]
    several = fetch_spans(store, [("group/object", span)] * 2)
    assert [its.tobytes() for its in several] == [b"inside!"[slice(*span)]] * 2


def test_writing_and_removing_go_through_no_link(places):
    store, outside = places
    inside = store.root / "kept"
    inside.mkdir()
    (inside / "object").write_bytes(b"kept")
    for target in (outside / "group", inside):
        link(store, "group", target)
        for ask in (
            lambda: sync(store.set("group/object", buffer(b"x"))),
            lambda: sync(store.set_if_not_exists("group/new", buffer(b"x"))),
            lambda: store.set_sync("group/object", buffer(b"x")),
            lambda: sync(store.delete("group/object")),
            lambda: store.delete_sync("group/object"),
            lambda: sync(store.delete_dir("group/sub")),
        ):
            with pytest.raises(StoreError, match="through a link"):
                ask()
        assert sorted(path.name for path in target.iterdir()) == ["object"]
        sync(store.delete_dir("group"))  # of a link, the link alone
        assert not (store.root / "group").is_symlink()
        assert (target / "object").exists()
        (store.root / "group").mkdir()
        (store.root / "group" / "object").write_bytes(b"inside!")
    for remove in (lambda key: sync(store.delete(key)), store.delete_sync):
        (store.root / "file").symlink_to(outside / "group" / "object")
        remove("file")
        assert (outside / "group" / "object").read_bytes() == SECRET
    link(store, "group/object", outside / "group" / "object")
    sync(store.set("group/object", buffer(b"new")))  # replaces the link
    assert (store.root / "group" / "object").read_bytes() == b"new"
    assert (outside / "group" / "object").read_bytes() == SECRET


def test_listing_names_links_that_lead_out_and_enters_none(places):
    store, outside = places
    (store.root / "out").symlink_to(outside)
    (store.root / "broken").symlink_to(outside / "absent")
    assert sync(listed(store.list())) == ["broken", "group/object", "out"]
    with pytest.raises(StoreError, match="out"):
        sync(listed(store.list_prefix("out")))
