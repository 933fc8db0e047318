"""``--json``: one object on stdout that its schema describes, everything else on stderr."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest
from jsonschema import Draft202012Validator

from laion_zarr.conversion.cli import main

SCHEMAS = files("laion_zarr.conversion.cli") / "schemas"
SOURCE, STORE = "--source laion-zarr-demo/data", "--store laion-zarr-demo/laion-fmri.zarr"


def strict(schema):
    """The schema, refusing fields that it does not name: here, all must be documented."""
    if isinstance(schema, dict):
        found = {key: strict(value) for key, value in schema.items()}
        return {"additionalProperties": False, **found} if "properties" in schema else found
    return [strict(one) for one in schema] if isinstance(schema, list) else schema


def document(capsys, line, code=0):
    """What a command prints, checked against its schema."""
    assert main(line.split()) == code
    found = json.loads(capsys.readouterr().out)
    schema = json.loads((SCHEMAS / f"{found['command']}.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(strict(schema)).validate(found)
    assert found["command"] == line.split()[0]
    return found


def test_schemas_refuse_what_they_do_not_describe():
    schema = json.loads((SCHEMAS / "subjects.json").read_text("utf-8"))
    checker = Draft202012Validator(strict(schema))
    right = {"command": "subjects", "version": 1, "subjects": ["sub-01"]}
    assert checker.is_valid(right)
    for wrong in ({"version": 2}, {"subjects": [1]}, {"more": 1}, {"command": "rois"}):
        assert not checker.is_valid(right | wrong)


def test_info(on_demo, capsys, monkeypatch):
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", "laion-zarr-demo/data")
    found = document(capsys, f"info --json {STORE}")
    (mirrored,) = found["mirror"]["subjects"]
    groups = {group["group"]: group for group in found["store"]["groups"]}
    assert mirrored["sessions"] == groups["sub-01"]["sessions"] == ["ses-01", "ses-02"]
    assert groups["sub-01"]["n_trials"] == 51
    assert groups["splits"]["splits"]["revisions"]
    only = document(capsys, f"info --json {STORE} --subject 01")
    assert [group["group"] for group in only["store"]["groups"]] == [only["subject"]] == ["sub-01"]


def test_info_of_nothing_and_of_damage(on_demo, copy_of, capsys):
    found = document(capsys, "info --json")
    assert found["mirror"]["path"] is None
    assert "laion-zarr config" in found["store"]["reason"]
    broken = copy_of(on_demo / "laion-zarr-demo" / "laion-fmri.zarr")
    (broken / "sub-01" / "manifest.json").unlink()
    found = document(capsys, f"info --json --store {broken}")
    (damaged,) = [one for one in found["store"]["groups"] if one["damage"]]
    assert damaged["group"] == "sub-01"


def test_bucket(front, capsys):
    assert document(capsys, "subjects --json")["subjects"] == ["sub-01", "sub-03"]
    found = document(capsys, "rois --json")
    assert found["subject"] == "sub-01"
    assert "FFA1" in found["rois"]
    assert document(capsys, "rois --json --subject 3 --category body")["subject"] == "sub-03"


def test_verify(on_demo, copy_of, capsys):
    found = document(capsys, f"verify --json {SOURCE} {STORE}")
    assert (found["problems"], found["deep"]) == ([], False)
    assert found["n_files"] > 500
    broken = copy_of(on_demo / "laion-zarr-demo" / "laion-fmri.zarr")
    (broken / "sub-01/trials/run/c/0").unlink()
    found = document(capsys, f"verify --json --store {broken}", code=1)
    assert "sub-01/trials/run/c/0" in found["problems"][0]


def test_outdated(on_demo, capsys):
    assert document(capsys, f"outdated --json {SOURCE} {STORE}")["outdated"] is False


def test_dry_run(on_demo, capsys):
    found = document(capsys, f"convert --json --dry-run {SOURCE} --store new.zarr")
    assert found["dry_run"] is True
    assert found["converted"] == []
    assert any("ses-01" in line for line in found["planned"])
    assert found["disk_nbytes"] > 0
    assert document(capsys, f"convert --json --dry-run {SOURCE} {STORE}")["planned"] == []
    assert not (on_demo / "new.zarr").exists()


def test_an_error_prints_no_object(capsys):
    assert main(["info", "--json", "--store", "nowhere"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")


@pytest.mark.parametrize("name", ["convert", "info", "outdated", "rois", "subjects", "verify"])
def test_each_object_has_a_schema(name, capsys):
    assert (SCHEMAS / f"{name}.json").is_file()
    assert main([name, "--help"]) == 0
    assert "--json" in capsys.readouterr().out
