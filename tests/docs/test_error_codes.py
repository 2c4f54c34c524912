"""docs/errors.md names every stable error code of the code, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "reverse_etl"
ROW_REFUSALS = re.compile(r"'(invalid_[a-z_]+)'")
CARRIERS = {"RunError", "RowProblem", "Refusal", "_say"}  # the code is their first argument
CODE = re.compile(r"[a-z][a-z_]+")
OUTSIDE = {"sandbox", "demo"}  # they speak as others do, or tell a story


def trees() -> dict[Path, ast.Module]:
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if not OUTSIDE & set(path.relative_to(PACKAGE).parts)]
    return {path.relative_to(PACKAGE): ast.parse(path.read_text()) for path in files}


def constants(modules: Iterable[ast.Module]) -> dict[str, str]:
    """Module-level names that stand for text."""
    return {
        target.id: node.value.value
        for module in modules
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def said(value: ast.expr, known: dict[str, str]) -> Iterator[str]:
    """The texts an expression given as `code=` can be, as far as it can be read."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.Name | ast.Attribute):
        name = value.id if isinstance(value, ast.Name) else value.attr
        if name in known:
            yield known[name]
    elif isinstance(value, ast.IfExp):
        yield from said(value.body, known)
        yield from said(value.orelse, known)


def codes_in_the_code() -> set[str]:
    modules = trees()
    known = constants(modules.values())
    found: set[str] = set()
    for path, module in modules.items():
        for node in ast.walk(module):
            found |= set(codes_at(node, known))
            if "destinations" not in path.parts:  # theirs speak OAuth's words too
                found |= set(row_refusals_at(node))
    return {code for code in found | error_classes() if CODE.fullmatch(code)}


def codes_at(node: ast.AST, known: dict[str, str]) -> Iterator[str]:
    if isinstance(node, ast.keyword) and node.arg == "code":
        yield from said(node.value, known)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args and node.func.id in CARRIERS:
        yield from said(node.args[0], known)


def row_refusals_at(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from ROW_REFUSALS.findall(f"'{node.value}'")  # also where it stands within SQL


def error_classes() -> set[str]:
    tree = ast.parse((PACKAGE / "errors.py").read_text())
    return {
        node.value.value
        for owner in tree.body
        if isinstance(owner, ast.ClassDef) and owner.name != "ReverseEtlError"
        for node in owner.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id == "code"
    }


def codes_in_the_page() -> set[str]:
    return set(re.findall(r"^\| `([a-z_]+)` \|", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE))


def test_every_error_code_is_documented_with_its_remedy() -> None:
    assert sorted(codes_in_the_code() - codes_in_the_page()) == []


def test_no_documented_error_code_has_left_the_code() -> None:
    assert sorted(codes_in_the_page() - codes_in_the_code()) == []


def test_every_remedy_is_said() -> None:
    rows = re.findall(r"^\| `[a-z_]+` \|(.*)\|$", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)
    assert [row for row in rows if len([cell for cell in row.split("|") if cell.strip()]) < 2] == []
