"""What a shell offers at TAB: names of the store on the disk, no network, never an error."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from laion_zarr import load_subject
from laion_zarr.conversion.cli import completion, main
from laion_zarr.conversion.cli.commands import app

STORE = "--store laion-zarr-demo/laion-fmri.zarr"


def offered(capfd, line):
    """Candidates for the last word of a line, with their descriptions, as shells ask for them."""
    assert main(["__complete", *line.split(" ")]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.partition("\x1fbegin\n")[2].splitlines()
    return dict(one.partition("\t")[::2] for one in lines)


def test_store_that_the_line_names(on_demo, capfd):
    assert offered(capfd, f"convert {STORE} --subject ") == {"sub-01": "2 sessions"}
    assert list(offered(capfd, f"convert {STORE} --subject 01 --ses ")) == ["ses-01", "ses-02"]


def test_configured_store(on_demo, capfd, monkeypatch):
    monkeypatch.setenv("LAION_ZARR_STORE", "laion-zarr-demo/laion-fmri.zarr")
    sub = load_subject("01")
    by_category = offered(capfd, "rois --category ")
    assert sorted(by_category) == sub.get_available_categories()
    assert by_category["face"].split(", ") == sub.get_available_rois("face")
    assert list(offered(capfd, "info --subject=s")) == ["sub-01"]
    assert list(offered(capfd, "download --subject all --ses ")) == ["ses-01", "ses-02"]
    assert offered(capfd, "download --subject sub-99 --ses ") == {}
    assert offered(capfd, "download --subject bad_id --ses ") == {}


@pytest.mark.parametrize("store", ["nowhere", "s3://no-such-bucket/store.zarr", "", "broken"])
def test_no_store_no_candidates(store, tmp_path, capfd, monkeypatch):
    group = tmp_path / "broken" / "sub-01"
    group.mkdir(parents=True)
    (group / "manifest.json").write_text('{"parts": [')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAION_ZARR_STORE", store)
    for line in ("info --subject ", "convert --ses ", "rois --category "):
        assert set(offered(capfd, line)) <= {"sub-01"}


def test_zarr_is_not_imported_for_them(on_demo):
    code = (
        "import sys; from laion_zarr.conversion.cli import main\n"
        f"main(['__complete', 'convert', *{STORE.split()!r}, '--ses', ''])\n"
        "print(sorted({'numpy', 'zarr', 'rich.panel'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split()[-3:] == ["ses-01", "ses-02", "[]"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_of_shells(shell, tmp_path):
    """Each is a script that its shell can read, and asks for values at TAB."""
    script = tmp_path / "script"
    assert main(["--install-completion", "--shell", shell, "--output", str(script)]) in (0, None)
    text = script.read_text()
    assert "__complete" in text
    for word in ("download-embeddings", "storage-option", "segmentations"):
        assert word in text
    if shutil.which(shell):
        subprocess.run([shell, "-n", str(script)], check=True)


def test_bash_offers_them(on_demo, tmp_path, monkeypatch):
    """The function of the script, called as bash calls it at TAB."""
    (tmp_path / "laion-zarr").write_text(f'#!/bin/sh\nexec {sys.executable} -m laion_zarr "$@"\n')
    (tmp_path / "laion-zarr").chmod(0o755)
    (tmp_path / "script").write_text(app.generate_completion(shell="bash"))
    monkeypatch.setenv("LAION_ZARR_STORE", "laion-zarr-demo/laion-fmri.zarr")
    code = f"""
        PATH={tmp_path}:$PATH; . {tmp_path}/script
        offer() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); "$complete"; \
echo "${{COMPREPLY[@]}}"; }}
        complete=$(complete -p laion-zarr | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        offer laion-zarr con
        offer laion-zarr convert --subject ''
        offer laion-zarr convert --parts ima
    """
    run = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["convert config", "sub-01", "images"]


def test_completers_never_raise():
    class Broken:
        def get(self, name):
            raise TypeError(name)

    for complete in (completion.subjects, completion.sessions, completion.categories):
        assert not complete(Broken())
