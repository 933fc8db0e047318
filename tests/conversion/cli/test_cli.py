"""The command line as a user types it, on the tiny dataset."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest

from laion_zarr import config, load_subject, load_subjects
from laion_zarr.conversion.cli import demo, main
from laion_zarr.splits import load_split


def test_config_info_convert_verify(bids_root, tmp_path, capsys):
    """The README's way, from nothing to a verified store."""
    target = tmp_path / "my store.zarr"
    assert main(["config", "--data-dir", str(bids_root), "--store", str(target)]) == 0
    assert str(bids_root) in capsys.readouterr().out
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert "sub-01: 2 sessions (ses-01 … ses-02)" in out
    assert "Store: none" in out or "empty" in out
    assert main(["convert", "--subject", "sub-01", "--quiet"]) == 0
    assert "19 parts converted, 0 unchanged, 0 failed" in capsys.readouterr().out
    assert main(["info", "--subject", "01"]) == 0
    out = capsys.readouterr().out
    assert "masks: anatomical, rsquare" in out
    assert "trials: 51" in out
    assert re.search(r"ROIs: (\d+)\n( {6}\w+: .*\n)+", out)
    assert "      face: FFA1, FFA2" in out
    assert "sub-03" not in out
    assert main(["verify", "--deep", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "values compared with the source: no problems" in out


def test_config_prefers_the_environment(bids_root, tmp_path, monkeypatch):
    config.store_initialize("s3://bucket/store.zarr")
    assert config.get_store() == "s3://bucket/store.zarr"
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(bids_root))
    assert config.get_store() == str(bids_root / "laion-fmri.zarr")
    monkeypatch.setenv("LAION_ZARR_STORE", str(tmp_path / "other.zarr"))
    assert config.get_store() == str(tmp_path / "other.zarr")


def test_progress_goes_to_stderr_and_quiet_is_quiet(bids_root, tmp_path):
    command = [sys.executable, "-m", "laion_zarr.conversion.cli", "convert"]
    options = ["--source", str(bids_root), "--store", str(tmp_path / "s.zarr")]
    loud = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    assert "volumes: 100%" in loud.stderr
    done, go_on, check = loud.stdout.splitlines()
    assert done == "30 parts converted, 0 unchanged, 0 failed"
    assert "sub-01" in repr(eval(go_on.removeprefix("Go on "), {"load_subject": load_subject}))
    assert main(shlex.split(check.removeprefix("Check    laion-zarr "))) == 0
    again = [*command, *options, "--quiet", "--overwrite"]
    quiet = subprocess.run(again, capture_output=True, text=True, check=True)
    (line,) = quiet.stderr.splitlines()  # so coarse is the grid
    assert "no voxel of ROI pSTSfaces is stored" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["convert", "--source", "/nowhere", "--store", "x"], "/nowhere is not a folder"),
        (["info", "--subject", "sub-"], "'sub-' is no subject id"),
        (["verify", "--store", "/nowhere"], "There is no laion_zarr store at /nowhere"),
        (["convert"], "laion-zarr config --data-dir"),
        (["info", "--store", "s", "--storage-option", "anon"], "--storage-option takes KEY=VALUE"),
    ],
)
def test_errors_are_one_readable_line(arguments, said, capsys):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert error.startswith("error: ")


def test_verify_names_every_problem(store, copy_of, capsys):
    broken = copy_of(store)
    shard = broken / "sub-01/ses-02/betas/c/0/0"
    shard.write_bytes(shard.read_bytes()[:-1])
    (broken / "sub-01/trials/run/c/0").unlink()
    (broken / "sub-03/stray").write_text("?")
    assert main(["verify", "--store", str(broken), "--quiet"]) == 1
    captured = capsys.readouterr()
    for path in ("ses-02/betas/c/0/0", "trials/run/c/0", "sub-03/stray"):
        assert path in captured.err
    assert "3 problems" in captured.out


def test_demo_says_what_happened_and_draws(tmp_path):
    lines: list[str] = []
    picture = demo.run_demo(tmp_path / "demo", size="tiny", progress=False, say=lines.append)
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = "\n".join(lines)
    assert "get_betas(roi='face'): 51 trials ×" in text
    assert str(picture) in text
    assert demo.run_demo(tmp_path / "demo", "tiny", False, lines.append) == picture


def test_use_demo_makes_what_lacks_and_leaves_what_is_there(tmp_path, monkeypatch):
    for name in ("LAION_ZARR_STORE", "LAION_ZARR_DATA_DIR"):
        monkeypatch.setenv(name, "elsewhere")  # what use_demo sets is undone

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(demo, "add_splits", interrupted)
        with pytest.raises(KeyboardInterrupt):
            demo.use_demo(tmp_path, size="tiny")
    path = demo.use_demo(tmp_path, size="tiny")
    assert load_split("tau", "shared").n_test
    assert load_subject("01").get_t1w().is_relative_to(tmp_path)

    before = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}
    assert demo.use_demo(tmp_path, size="tiny") == path
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()} == before

    demo.use_demo(tmp_path, ["sub-01", "sub-05"], "tiny")
    assert [one for one, _ in load_subjects("all")] == ["sub-01", "sub-05"]
    betas = [file for file in before if file.is_relative_to(path / "sub-01" / "ses-01")]
    assert betas
    assert {file: file.stat().st_mtime_ns for file in betas} == {
        file: before[file] for file in betas
    }


def test_info_shows_what_is_damaged_beside_the_rest(store, copy_of, capsys):
    broken = copy_of(store)
    (broken / "sub-01" / "manifest.json").unlink()
    assert main(["info", "--store", str(broken)]) == 0
    shown = capsys.readouterr().out
    assert "sub-01: damaged" in shown
    assert "sub-01/manifest.json is missing" in shown
    assert "sub-03: 2 sessions" in shown
