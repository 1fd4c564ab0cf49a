"""Tests that errors of a tool's last lines are reported too: nobody reads them any more, or the disk is full."""

import ast
from pathlib import Path

import pytest

TOOLS = sorted((Path(__file__).parents[2] / "tools").rglob("*.py"))
CONTEXTS = {"report_errors", "exit_on_error", "clean_exit"}


def calls(node: ast.AST) -> set[str]:
    """Returns the names of the functions that are called by name in a statement."""
    found = (part.func for part in ast.walk(node) if isinstance(part, ast.Call))
    return {function.id for function in found if isinstance(function, ast.Name)}


def printed_outside(source: str) -> list[int]:
    """Returns the lines of `main` that print and are in none of the `CONTEXTS`, which report errors."""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    statements = [statement for function in functions for statement in function.body]
    if not any(calls(statement) & CONTEXTS for statement in statements):
        return []  # `main` reports errors in a way of its own, as the doctor does
    outside = [node for node in statements if not (isinstance(node, ast.With) and calls(node) & CONTEXTS)]
    return [node.lineno for node in outside if "print" in calls(node)]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda path: path.stem)
def test_errors_of_printing_are_reported(tool: Path) -> None:
    assert printed_outside(tool.read_text()) == []


def test_the_check_itself() -> None:
    source = "def main():\n    with report_errors():\n        print(1)\n    for n in 1, 2:\n        print(n)\n"
    assert printed_outside(source) == [4]
