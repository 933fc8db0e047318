"""The documentation site: docs and notebooks, built where they lie (``make docs``).

The repository is Sphinx's source folder, so that a link that leads somewhere on GitHub leads there
on the site, and no page is kept twice.
"""

from __future__ import annotations

from importlib.metadata import version as installed
from pathlib import Path

ROOT = Path(__file__).parents[1]

project = "laion_zarr"
author = "The laion_zarr developers"
copyright = author
version = release = installed("laion-zarr")

extensions = [
    "cyclopts.ext.sphinx",
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
root_doc = "docs/index"
include_patterns = ["CHANGELOG.md", "CONTRIBUTING.md", "docs/**", "notebooks/*.ipynb"]
exclude_patterns = ["**/.ipynb_checkpoints"]
templates_path = ["_templates"]

# Each group takes the pages that match and are in none before it.
CONTENTS = {
    "Begin": ["docs/install.md", "docs/data.md", "docs/tour.md", "docs/coming-from-laion_fmri.md"],
    "Look": ["docs/explorer.md"],
    "Analyse": [
        "notebooks/*.ipynb",
        "docs/recipes/index.md",
        "docs/xarray.md",
        "docs/behaviour.md",
        "docs/time-series.md",
        "docs/pytorch.md",
        "docs/cluster.md",
    ],
    "Share and trust": [
        "docs/s3.md",
        "docs/store.md",
        "docs/releases.md",
        "docs/promises.md",
        "docs/benchmarks.md",
    ],
    "Look up": ["docs/command-line.md", "docs/api/index.rst", "docs/faq.md", "CHANGELOG.md"],
    "Project": ["docs/architecture.md", "docs/releasing.md", "CONTRIBUTING.md"],
}

# -- text

myst_heading_anchors = 3  # "benchmarks.md#pytorch" leads there, as on GitHub
myst_ref_domains = ["std", "py"]
smartquotes = False  # "--store" is two hyphens, and {"L", "R"} has straight quotes
copybutton_exclude = ".linenos, .gp, .go"  # prompts and results

# -- notebooks: stored without what they show, so run here; again only when they have changed

nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_output_stderr = "remove"  # bars, and warnings of other packages, with paths

# -- docstrings: types stand in them, with shapes and units

default_role = "py:obj"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

# -- looks

html_theme = "furo"
html_title = f"laion_zarr {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "to_front_page.html"}
html_copy_source = False
html_show_sourcelink = False


def contents() -> str:
    """The groups of CONTENTS, as MyST: GitHub has no need of them."""
    listed: set[str] = set()
    blocks = []
    for caption, patterns in CONTENTS.items():
        found = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
        pages = [path.relative_to(ROOT).as_posix() for path in found]
        new = [page for page in pages if page not in listed]
        listed.update(new)
        if new:
            lines = "\n".join(f"/{page.rpartition('.')[0]}" for page in new)
            blocks.append(f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```")
    return "\n\n".join(blocks)


def add_contents(app: object, page: str, source: list[str]) -> None:
    """Give the root page the tables of contents that Sphinx expects in it."""
    if page == root_doc:
        source[0] += f"\n\n{contents()}\n"


def leave_out_rooms(
    app: object, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Show no docstring of a module whose page has a text for users.

    The docstring of a room, and of a module that hands out names of a room, is for developers.
    """
    module = name.removeprefix("laion_zarr.")
    page = ROOT / "docs" / "api" / f"{module}.rst"
    if what == "module" and page.is_file():
        below_title = page.read_text(encoding="utf-8").partition("\n\n")[2]
        if not below_title.startswith(".. automodule::"):
            lines.clear()


def setup(app: object) -> None:
    """Tell Sphinx."""
    app.connect("autodoc-process-docstring", leave_out_rooms)
    app.connect("source-read", add_contents)
    app.connect("env-get-outdated", lambda *_: [root_doc])  # what it lists may have changed
