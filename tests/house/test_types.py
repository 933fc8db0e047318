"""The types that editors are told are those of the values: typed_script.py, run on a store.

`make types` has the other half: mypy and pyright agree with the script.
"""

from __future__ import annotations

import ast
import runpy
import typing
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("typed_script.py")


def is_of(value: Any, kind: Any) -> bool:
    """Whether a value has a type, and all that it contains."""
    within = typing.get_args(kind)
    if not within:
        return isinstance(value, kind)
    inside = value.items() if isinstance(value, dict) else ((one,) for one in value)
    return isinstance(value, typing.get_origin(kind)) and all(
        all(map(is_of, parts, within)) for parts in inside
    )


def test_values_have_the_types_that_are_asserted(with_splits, monkeypatch):
    monkeypatch.setenv("LAION_ZARR_STORE", str(with_splits))
    checked = []

    def assert_type(value: Any, kind: Any) -> Any:
        assert is_of(value, kind), f"assertion {len(checked) + 1}: {type(value)}, not {kind}"
        checked.append(kind)
        return value

    monkeypatch.setattr(typing, "assert_type", assert_type)
    runpy.run_path(str(SCRIPT))
    written = [node for node in ast.walk(ast.parse(SCRIPT.read_text("utf-8"))) if is_check(node)]
    assert len(checked) == len(written) > 20


def is_check(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "assert_type"


def test_wrong_types_would_be_found():
    assert is_of({"a": ["b"]}, dict[str, list[str]])
    assert not is_of({"a": [1]}, dict[str, list[str]])
    assert not is_of("ab", list[str])
