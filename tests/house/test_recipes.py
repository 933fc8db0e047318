"""The recipes are short, are listed, and check what they show; `make docs` runs them."""

from __future__ import annotations

import re

import pytest
from places import ROOT

RECIPES = ROOT / "docs" / "recipes"
PAGES = sorted(page for page in RECIPES.glob("*.md") if page.name != "index.md")


def cells_of(page):
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```\{code-cell\} python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_recipe_is_short_and_checks_itself(page):
    code = "\n".join(cells_of(page))
    compile(code, page.name, "exec")
    lines = [line for line in code.splitlines() if not line.startswith(("from ", "import ", "#"))]
    assert sum(bool(line.strip()) for line in lines) <= 40
    assert re.search(r"^ *assert ", code, re.MULTILINE)
    assert code.count("use_demo()") == 1


@pytest.mark.parametrize("page", [*PAGES, RECIPES / "index.md"], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (RECIPES / target).exists(), target


def test_every_recipe_is_listed():
    text = (RECIPES / "index.md").read_text(encoding="utf-8")
    assert {page.name for page in PAGES} <= set(re.findall(r"\]\((\S+?\.md)\)", text))
