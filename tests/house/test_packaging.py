"""Installed packages and entry points; pyproject.toml and conda's files list the same ones."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib

import yaml
from places import ROOT

CONDA_NAMES = {"isal": "python-isal"}
NEEDED = {"zarr", "dask", "xarray", "nibabel", "numcodecs", "h5py", "s3fs", "pandas", "numpy"}


def requirements(lines: list[str]) -> dict[str, str]:
    pattern = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?\s*(.*)")
    pairs = [pattern.fullmatch(line.partition("#")[0].strip()) for line in lines]
    return {match[1].lower(): match[2] for match in pairs if match}


def conda() -> dict[str, str]:
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    return requirements(re.findall(r"^  - ([^:\n]+)$", text, flags=re.MULTILINE))


def test_environment_is_in_step_with_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    found = [*project["dependencies"], *extras["analysis"], *extras["plot"], *extras["template"]]
    wanted = requirements(found)
    environment = conda()
    for name, bound in wanted.items():
        assert environment.get(CONDA_NAMES.get(name, name)) == bound, name
    assert environment["python"] == project["requires-python"]


def test_environment_has_all_that_the_project_builds_on():
    assert set(conda()) >= NEEDED


def test_conda_recipe_is_in_step_with_pyproject():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, folder = config["project"], ROOT / ".github" / "conda"
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    wanted = requirements(project["dependencies"])
    wanted = {CONDA_NAMES.get(name, name): bound for name, bound in wanted.items()}
    wanted["python"] = project["requires-python"]
    assert requirements(recipe["requirements"]["run"]) == wanted
    (script,) = project["scripts"].items()
    assert recipe["build"]["python"]["entry_points"] == [" = ".join(script)]
    host = requirements(recipe["requirements"]["host"])
    (backend,) = requirements(config["build-system"]["requires"]).items()
    assert backend in host.items()
    assert recipe["about"]["license"] == project["license"]
    assert recipe["about"]["summary"] == project["description"]
    assert (folder / recipe["source"]["path"]).resolve() == ROOT


def test_entry_points():
    (engine,) = importlib.metadata.entry_points(group="xarray.backends", name="laion_zarr")
    assert engine.load().description
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="laion-zarr")
    assert callable(script.load())


def packages() -> list[str]:
    """Every folder with an ``__init__.py``, as it is installed."""
    found = []
    for folder, package in (("laion_zarr", "laion_zarr"), ("conversion", "laion_zarr.conversion")):
        for file in (ROOT / folder).rglob("__init__.py"):
            found.append(".".join([package, *file.parent.relative_to(ROOT / folder).parts]))
    return sorted(found)


def test_every_room_is_installed(tmp_path):
    """`conversion/` installs as laion_zarr.conversion, and as nothing else."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["setuptools"]["packages"] == packages()
    code = "import laion_zarr.conversion, importlib.util as u; print(u.find_spec('conversion'))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "None"


def test_import_is_light():
    heavy = "('xarray', 'zarr', 'dask', 'pandas', 'nibabel')"
    code = f"import sys, laion_zarr; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
