"""What the hosting reads (.github, CITATION.cff) and the changelog agree with the project."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator

import pytest
import yaml
from places import ROOT

import laion_zarr

HOSTING = ROOT / ".github"
YAML = sorted(path.relative_to(ROOT).as_posix() for path in HOSTING.rglob("*.yml"))
YAML += [".github/conda/recipe.yaml", "CITATION.cff"]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = CONFIG["project"]
TOX = CONFIG["tool"]["tox"]
# The shell's, and tools that a job brings.
FOREIGN = {"chromium", "chromium=$(python", "echo", "git", "ln", "mkdir", "playwright"}


def text_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def load(path: str) -> dict:
    return yaml.safe_load(text_of(path))


def commands() -> Iterator[list[str]]:
    """Words of each command of each job, one for each row of its matrix."""
    for path in sorted(HOSTING.glob("workflows/*.yml")):
        for job in load(path.relative_to(ROOT).as_posix())["jobs"].values():
            rows = job.get("strategy", {}).get("matrix", {}).get("include", [{}])
            for row in rows:
                for step in job["steps"]:
                    text = step.get("run", "")
                    for name, value in row.items():
                        text = text.replace(f"${{{{ matrix.{name} }}}}", value)
                    for line in re.split(r"\n|&&", text):
                        if line.strip():
                            yield shlex.split(line)


@pytest.mark.parametrize("path", YAML)
def test_files_of_the_hosting_are_yaml(path):
    assert isinstance(load(path), dict)


def test_commands_of_the_workflows_exist():
    targets = set(re.findall(r"^(\w+):", text_of("Makefile"), flags=re.MULTILINE))
    seen = set()
    for name, *arguments in commands():
        seen.add(name)
        if name == "make":
            assert set(arguments) <= targets
        elif name == "tox":
            assert set(arguments) - {"-e"} <= set(TOX["env_list"])
        elif name == "pytest":
            for path in (word for word in arguments if "/" in word):
                assert (ROOT / path).exists(), path
        elif name == "pip":
            for extras in re.findall(r"\.\[(.*?)\]", " ".join(arguments)):
                assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
        else:
            assert name in FOREIGN, name
    assert {"make", "tox", "pytest", "pip"} <= seen


def test_each_version_of_python_is_tried_oldest_and_newest():
    rows = load(".github/workflows/checks.yml")["jobs"]["tests"]["strategy"]["matrix"]["include"]
    assert {row["env"] for row in rows} == set(TOX["env_list"])
    for row in rows:
        (base,) = TOX["env"].get(row["env"], {}).get("base_python", [row["env"]])
        assert base.removeprefix("py").replace(".", "") == row["python"].replace(".", "")
    assert f">={min(row['python'] for row in rows)}" == PROJECT["requires-python"]


def test_versions_agree():
    releases = re.findall(r"^## \[?(\d+\.\d+\.\d+)", text_of("CHANGELOG.md"), flags=re.MULTILINE)
    assert releases[0] == PROJECT["version"]
    assert load("CITATION.cff")["version"] == PROJECT["version"]
    assert load(".github/conda/recipe.yaml")["context"]["version"] == PROJECT["version"]
    assert laion_zarr.__version__ == PROJECT["version"], "run 'pip install -e .' again"


def test_the_changelog_has_the_form_of_keepachangelog():
    head, *sections = re.split(r"^## ", text_of("CHANGELOG.md"), flags=re.MULTILINE)
    assert "keepachangelog.com" in head
    assert sections[0].splitlines()[0] == "Unreleased"
    for section in sections:
        title, *_ = section.splitlines()
        assert re.fullmatch(r"Unreleased|\d+\.\d+\.\d+ – \d{4}-\d\d-\d\d", title), title
        kinds = re.findall(r"^### (.*)$", section, flags=re.MULTILINE)
        assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
        assert len(set(kinds)) == len(kinds), title


def test_citation_says_what_pyproject_says():
    citation = load("CITATION.cff")
    assert [author["name"] for author in citation["authors"]] == [
        author["name"] for author in PROJECT["authors"]
    ]
    assert citation["license"] == PROJECT["license"]
    assert citation["abstract"] == PROJECT["description"]
    assert citation["references"][0]["url"] == PROJECT["urls"]["Dataset"]


def test_links_of_the_hosting_lead_somewhere():
    pages = sorted(HOSTING.glob("*.md"))
    for page in pages:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / re.sub(r"\s+", "", target)).exists(), target
    assert {page.stem for page in pages} >= {"SECURITY", "CODE_OF_CONDUCT"}
