"""Tests that modules, classes and functions say in their first word what they do: a verb in the third person."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    str(path.relative_to(ROOT))
    for folder in ("vil_dense", "tools")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path.stat().st_size
]
TESTS = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "tests").rglob("*.py"))]
"""Files of tests whose docstrings, where they have any, begin as those of the package do."""
NO_VERBS = {
    "as",
    "axes",
    "bands",
    "bytes",
    "checkpoints",
    "class",
    "classes",
    "commands",
    "files",
    "functions",
    "ids",
    "is",
    "its",
    "kernels",
    "losses",
    "parts",
    "partners",
    "pictures",
    "pixels",
    "properties",
    "rows",
    "settings",
    "tables",
    "tensors",
    "this",
    "trainings",
    "weights",
}
"""Words that end in s and are no verbs."""

Documented = ast.Module | ast.ClassDef | ast.FunctionDef


def public(parent: ast.Module | ast.ClassDef, name: str) -> Iterator[tuple[str, Documented, bool]]:
    """Yields name, node and whether a docstring is required of `parent` and of all that is public in it.

    Not required are docstrings of `main` and of methods of subclasses, which may have that of their base class.
    """
    inherits = isinstance(parent, ast.ClassDef) and [getattr(base, "id", "") for base in parent.bases] not in (
        [],
        ["NamedTuple"],
    )
    for node in parent.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield f"{name}{node.name}", node, node.name != "main" and not inherits
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{name}{node.name}.")


def fault(node: Documented, required: bool) -> str:
    """Describes what is wrong with the docstring of a node; empty if nothing is."""
    text = ast.get_docstring(node)
    if text is None:
        return "has no docstring" if required else ""
    first = text.split(None, 1)[0]
    if not re.fullmatch(r"[A-Z][a-z-]+s,?", first) or first.strip(",").lower() in NO_VERBS:
        return f"begins with {first!r}"
    return ""


@pytest.mark.parametrize("file", FILES)
def test_docstrings_begin_with_a_verb(file: str) -> None:
    module = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    faults = [
        f"{name} {words}"
        for name, node, required in [("the module", module, True), *public(module, "")]
        if (words := fault(node, required))
    ]
    assert not faults, "; ".join(faults)


@pytest.mark.parametrize("file", TESTS)
def test_docstrings_of_tests_begin_with_a_verb(file: str) -> None:
    nodes = [
        node for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))) if isinstance(node, Documented)
    ]
    faults = [f"{getattr(node, 'name', 'the module')} {words}" for node in nodes if (words := fault(node, False))]
    assert not faults, "; ".join(faults)


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ('"""Returns a map."""', True),
        ('"""Pads, crops."""', True),
        ('"""Return a map."""', False),
        ('"""What a map is."""', False),
        ('"""As `pad`."""', False),
        ('"""`pad` for maps."""', False),
        ("x = 1", False),
    ],
)
def test_the_check_itself(text: str, fine: bool) -> None:
    assert (fault(ast.parse(text), required=True) == "") == fine
