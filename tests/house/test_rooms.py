"""The plan of the house (docs/architecture.md): which room may import which, read with `ast`.

Every import of every module counts: at module level, in a function, or for type checkers alone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# The one table: from the top floor down. A room imports rooms of lower floors only, so two rooms
# of one floor do not import each other. A room is a folder or a single module.
FLOORS = [
    ["compat", "__main__"],
    ["laion_zarr"],  # the front door, laion_zarr/__init__.py
    ["conversion"],  # the converter's, conversion/__init__.py
    ["conversion.demo"],
    ["conversion.cli"],
    ["conversion.run"],
    ["conversion.planning"],
    ["conversion.parts"],
    ["conversion.series", "conversion.averages"],
    ["conversion.write", "conversion.source", "conversion.verification", "conversion.synthetic"],
    ["conversion.synthetic.model"],
    ["conversion.options"],
    ["conversion.budget"],
    ["group"],
    ["subject"],
    ["torch_data", "derivatives", "discovery", "captions", "embeddings", "images", "segmentations"],
    ["analysis"],
    ["analysis.streams"],
    ["stimuli"],
    ["splits"],
    ["download"],
    ["plots", "engine", "explorer"],
    ["arrays"],
    ["templates"],
    ["config", "_repr", "_progress", "_whole"],
    ["store"],
    ["store.bounds"],
    ["store.schema"],
    ["_release"],
    ["errors", "_lazy_names", "_words"],
]
FLOOR_OF = {room: -number for number, floor in enumerate(FLOORS) for room in floor}

# The checks share no code with what they check.
VERIFICATION = {"conversion.options", "config", "store", "store.schema", "_release", "errors"}
VERIFICATION.add("store.bounds")

# Packages that few modules may import: what asks object storage, and what reads the release.
FEW = {
    "s3fs": {"download.bucket"},
    "botocore": set(),
    "aiohttp": {"explorer.server"},
    "fsspec": {
        *("download.bucket", "conversion.source.files", "conversion.source.remote"),
        "conversion.source.splits",
    },
    "h5py": {
        *("conversion.source.hdf5", "conversion.verification.stimuli"),
        "conversion.synthetic.stimulus_files",
    },
    "pickle": {"conversion.run.workers"},
}

# An import within a function is for a package that is optional or slow to import.
LOCAL_IMPORTS = {
    "engine": {"laion_zarr", "numpy"},  # xarray imports the engines of every user
    "conversion.run.cluster": {"distributed"},
    "conversion.cli": {"laion_zarr.conversion.cli"},  # after Ctrl-C is heeded
    # --help answers at once
    "conversion.cli.store": {"laion_zarr.conversion", "laion_zarr.explorer"},
    "conversion.cli.download": {"laion_zarr"},
    "conversion.cli.demo": {"matplotlib", "laion_zarr.plots"},
    "conversion.write.root": {"fcntl"},
    "explorer.notebook": {"laion_zarr.explorer.widget"},  # which imports anywidget
    "plots": {"matplotlib", "nibabel", "nilearn"},
    "templates.files": {"nibabel"},
    "templates.recon": {"nilearn"},
    "templates.resample": {"scipy"},
    "templates.templates": {"scipy"},
    "arrays.dataset": {"dask"},
    "analysis.encoding": {"sklearn"},
    "analysis.device": {"scipy", "sklearn", "torch"},
    # which import numba
    "analysis.streams.stream": {
        "laion_zarr.analysis.streams.compiled",
        "laion_zarr.analysis.streams.native",
    },
    "stimuli.decode": {"PIL"},
    "stimuli.picture_files": {"PIL"},
    "subject.stimuli": {"laion_zarr.torch_data"},  # which imports PyTorch
}

MOST_LINES, MOST_FUNCTION_LINES, MOST_PARAMETERS = 400, 40, 6
# Public functions, whose parameters are the contract with users.
MANY_PARAMETERS = {
    "compat.subject": {"get_betas", "get_localizer", "to_template"},
    "compat.torch_data": {"__init__"},
    "conversion.options": {"check_options"},
    "conversion.run.pipeline": {"convert"},
    "derivatives": {"localizer_statmap_path", "localizer_effect_path"},
    "download.dataset": {"download", "run_download"},
    "download.raw": {"download_raw"},
    "splits.splits": {"get_split_masks", "assign_split", "get_train_test_ids"},
    "subject.brain_space": {"plot_voxels"},
    "subject.localizers": {"get_localizer"},
    "subject.stimuli": {"to_torch_dataset"},
    "subject.subject": {"sel", "get_betas", "get_image_betas"},
    "subject.template_space": {"to_template", "surface_to_template"},
    "torch_data": {"__init__"},
}
# compat has a file for each module of the numpy package whose names it bears.
FILES_OF_A_ROOM = {"compat": range(3, 20)}


def module_files() -> dict[str, Path]:
    """Each module's file; names as imported, without ``laion_zarr.``."""
    found = {}
    for folder, package in ((ROOT / "laion_zarr", ""), (ROOT / "conversion", "conversion")):
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(part for part in parts if part and part != "__init__")] = path
    found["laion_zarr"] = found.pop("")
    return found


MODULES = module_files()
FRONT_DOORS = {"laion_zarr", "conversion", "compat"}  # they hand out names of other rooms
ROOMS = sorted({name for name in FLOOR_OF if MODULES.get(name, Path()).name == "__init__.py"})


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def room_of(module: str) -> str:
    """Room that a module is in; its own name if it is in none."""
    parts = module.split(".")
    names = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((name for name in names if name in FLOOR_OF and name != "conversion"), module)


def named(node: ast.AST) -> Iterator[str]:
    """Full names that a node brings: of an import statement, or of a string that names a module.

    Such strings go to ``import_module``, to `laion_zarr._lazy_names` or to another interpreter.
    """
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name
            if alias.asname is None:  # binds the first package, and all below it by attribute
                yield alias.name.partition(".")[0]
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        yield from (one.value for one in node.args if isinstance(one, ast.Constant))
    elif isinstance(node, ast.Constant):
        package, _, module = str(node.value).partition(".")
        if package == "laion_zarr" and module in MODULES:
            yield node.value


def ours(name: str, modules: dict[str, Path]) -> str | None:
    """Module of ours that an imported name is, or is in."""
    if name.partition(".")[0] != "laion_zarr":
        return None
    parts = name.removeprefix("laion_zarr").strip(".").split(".")
    names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((part for part in names if part in modules), "laion_zarr")


def imports_of(name: str) -> set[str]:
    """Modules of ours that a module imports, wherever it does."""
    found = {ours(full, MODULES) for node in ast.walk(tree_of(name)) for full in named(node)}
    return {module for module in found if module is not None}


def upward(name: str, imported: set[str]) -> list[str]:
    """Imports that do not lead to a lower floor, nor stay in the room."""
    room = room_of(name)
    return sorted(
        module
        for module in imported
        if room_of(module) != room and not FLOOR_OF[room_of(module)] < FLOOR_OF[room]
    )


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Modules on a circle of imports, or between two circles."""
    left = {name: imported - {name} for name, imported in graph.items()}
    while ends := [
        name
        for name, imported in left.items()
        if not imported & left.keys() or not any(name in other for other in left.values())
    ]:
        for name in ends:
            del left[name]
    return sorted(left)


# -- the order of the rooms


def test_every_module_is_in_a_room():
    assert [name for name in MODULES if room_of(name) not in FLOOR_OF] == []
    assert [room for room in FLOOR_OF if room not in MODULES] == []
    assert len(FLOOR_OF) == sum(map(len, FLOORS)), "each room is on one floor"


@pytest.mark.parametrize("name", MODULES)
def test_imports_lead_down(name):
    assert upward(name, imports_of(name)) == []


def test_no_circle_of_files():
    assert circles({name: imports_of(name) for name in MODULES}) == []


def test_what_the_tests_above_would_find():
    """An upward import, a circle and a stranger, each made up, are found."""
    assert upward("store.codec", {"arrays.lazy"}) == ["arrays.lazy"]
    assert upward("store.codec", {"store.schema", "errors"}) == []
    assert upward("templates.recon", {"arrays.lazy", "plots"}) == ["arrays.lazy", "plots"]
    assert upward("conversion.source.hdf5", {"conversion.write.writer"}) != []
    for code, module in {
        "def f():\n    from laion_zarr.conversion.run import workers": "conversion.run.workers",
        "from laion_zarr import load_subject": "laion_zarr",
        "import laion_zarr\nlaion_zarr.load_subject": "laion_zarr",
        "import laion_zarr.errors\nlaion_zarr.subject.Subject": "laion_zarr",
        "import_module('laion_zarr.subject')": "subject",
        "HOMES = {'Subject': 'laion_zarr.subject.subject'}": "subject.subject",
    }.items():
        nodes = ast.walk(ast.parse(code))
        assert module in {ours(full, MODULES) for node in nodes for full in named(node)}, code
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == ["b", "c"]
    assert circles({"a": {"b"}, "b": set()}) == []
    assert room_of("conversion.stray") not in FLOOR_OF
    assert room_of("stray") not in FLOOR_OF


@pytest.mark.parametrize("name", [name for name in MODULES if "verification" in name])
def test_checks_share_no_code_with_what_they_check(name):
    rooms = {room_of(module) for module in imports_of(name)} - {"conversion.verification"}
    assert rooms <= VERIFICATION


@pytest.mark.parametrize("package", FEW)
def test_few_modules_import(package):
    users = {
        name
        for name in MODULES
        for node in ast.walk(tree_of(name))
        if any(full.partition(".")[0] == package for full in named(node))
    }
    assert users <= FEW[package]


def strings(name: str) -> Iterator[str]:
    """Strings of a module's code, without docstrings and ``__all__``."""
    body = [node for node in tree_of(name).body if "__all__" not in ast.unparse(node)]
    nodes = [tree_of(name), *(inner for node in body for inner in ast.walk(node))]
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {id(node.body[0].value) for node in nodes if isinstance(node, kinds) and is_doc(node)}
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def is_doc(node: ast.AST) -> bool:
    return ast.get_docstring(node) is not None


# What may be spelled in one room alone: names of the release's files, and names of the store.
SPELLED = {
    "_release": (
        r"derivatives/\w|task-images|_statmap\b|_trials\.|_desc-\w|participants\.|_description\.json"
        r"|_events\.|_bold\.|_sbref\."
    ),
    "store.schema": r"voxel|trial|session_id|vertex|grid|manifest\.json|\.staging",
}


@pytest.mark.parametrize("home", SPELLED)
def test_names_are_spelled_in_one_room(home):
    pattern = re.compile(SPELLED[home])
    found = pattern.search if home == "_release" else pattern.fullmatch  # dims are words, too
    others = {name: [text for text in strings(name) if found(text)] for name in MODULES}
    home_texts = [text for name in MODULES if room_of(name) == home for text in others.pop(name)]
    assert home_texts
    assert {name: texts for name, texts in others.items() if texts} == {}


@pytest.mark.parametrize("name", MODULES)
def test_local_imports_are_for_optional_packages(name):
    top = {id(node) for node in tree_of(name).body}
    for node in tree_of(name).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            top |= {id(inner) for inner in ast.walk(node)}
    kinds = (ast.Import, ast.ImportFrom)
    nodes = [n for n in ast.walk(tree_of(name)) if isinstance(n, kinds) and id(n) not in top]
    local = {full for node in nodes for full in named(node)}
    allowed = LOCAL_IMPORTS.get(name, set())
    assert {full for full in local if not any(full.startswith(start) for start in allowed)} == set()


# -- what a room promises, and how large it is


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in FRONT_DOORS])
def test_a_room_says_what_it_is_knows_and_promises_and_where_to_begin(room):
    text = ast.get_docstring(tree_of(room)) or ""
    assert len(text.split("\n\n")) >= 4, "a paragraph for each of the four"
    first = text.partition("Begin with `")[2].partition("`")[0].partition(".")[0]
    assert f"{room}.{first}" in MODULES
    files = {name.rpartition(".")[2] for name in MODULES if room_of(name) == room != name}
    assert files - {"__main__"} <= set(re.findall(r"`(\w+)", text)), "every file is named"


@pytest.mark.parametrize(
    "room", [room for room in ROOMS if room not in ("laion_zarr", "conversion")]
)
def test_a_room_has_a_few_files(room):
    files = [name for name in MODULES if room_of(name) == room and name != room]
    assert len(files) in FILES_OF_A_ROOM.get(room, range(3, 11))


@pytest.mark.parametrize("name", MODULES)
def test_a_file_can_be_read_in_one_sitting(name):
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            assert not body or node.end_lineno - body[0].lineno < MOST_FUNCTION_LINES, node.name
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = len([one for one in arguments if one.arg not in ("self", "cls")])
            assert count <= MOST_PARAMETERS or node.name in MANY_PARAMETERS[name], node.name
