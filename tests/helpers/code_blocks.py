"""The fenced code blocks of a page of the documentation, and running them."""

from __future__ import annotations

import doctest
import re

from places import ROOT


def blocks(page: str, *languages: str) -> list[tuple[str, str]]:
    """Language and text of each fenced block."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"^```(\S*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [(language, code) for language, code in found if language in languages]


def run(page: str) -> None:
    """Run the Python of a page, block after block; of sessions, compare the results."""
    names: dict[str, object] = {"__name__": "__main__"}  # as of a script or a notebook
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    found = blocks(page, "python", "pycon")
    assert found
    for language, code in found:
        if language == "pycon":
            session = parser.get_doctest(code, names, page, page, 0)
            assert session.examples
            said: list[str] = []
            runner.run(session, out=said.append, clear_globs=False)
            assert not said, "".join(said)
            names = session.globs
        else:
            exec(compile(code, page, "exec"), names)
