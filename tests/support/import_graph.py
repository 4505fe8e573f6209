"""Imports of the project read from the syntax trees, so that lazy and type-only imports count.

`python -m tests.support.import_graph [FOLDER]` prints floors, circles and counts of a checkout's packages.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("hpo", "trainers", "reports", "search_spaces")


@dataclass(frozen=True)
class Import:
    """One imported module, and where the statement stands."""

    module: str
    """The module that loads, or the object's dotted name where that is no module of the project."""
    line: int
    lazy: bool
    """Inside a function."""
    type_only: bool
    """Under `if TYPE_CHECKING`."""


@dataclass(frozen=True)
class Module:
    """A source file."""

    name: str
    path: str
    """Relative to the checkout, with slashes."""
    imports: tuple[Import, ...]


def read(root: Path, packages: Iterable[str] = PACKAGES) -> dict[str, Module]:
    """All modules of the packages by dotted name."""
    paths = [path for package in packages for path in sorted((root / package).rglob("*.py"))]
    names = {_name(path.relative_to(root)): path for path in paths}
    return {
        name: Module(
            name, path.relative_to(root).as_posix(), tuple(imports(path.read_text(encoding="utf-8"), names.keys()))
        )
        for name, path in names.items()
    }


def imports(source: str, modules: Iterable[str] = ()) -> Iterator[Import]:
    """Imports of a source text. Where `from a import b` names a module of `modules`, that module is imported."""
    known = set(modules)

    def visit(node: ast.AST, lazy: bool, type_only: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, lazy, type_only)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"line {node.lineno}: relative imports hide the layer; write the whole path")
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield Import(whole if whole in known else str(node.module), node.lineno, lazy, type_only)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                yield from visit(child, lazy, True)
            for child in node.orelse:
                yield from visit(child, lazy, type_only)
        else:
            inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from visit(child, inside, type_only)

    return visit(ast.parse(source), False, False)


def arrows(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    """For every module those of the project that it imports."""
    return {
        name: {found.module for found in module.imports if found.module in modules} - {name}
        for name, module in modules.items()
    }


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other (Tarjan's strongly connected components of two and more), sorted."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def connect(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                connect(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            connect(node)
    return sorted(found)


def floors(graph: Mapping[str, Iterable[str]]) -> int:
    """Length of the longest chain of imports, counted in modules; a circle counts as one."""
    owner = {node: group[0] for group in circles(graph) for node in group}
    heights: dict[str, int] = {}

    def height(node: str) -> int:
        if node not in heights:
            members = [one for one in graph if owner.get(one, one) == node] or [node]
            below = {owner.get(other, other) for one in members for other in graph[one]} - {node}
            heights[node] = 1 + max(map(height, sorted(below)), default=0)
        return heights[node]

    return max((height(owner.get(node, node)) for node in graph), default=0)


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def main(root: Path) -> None:
    """Print the figures of a checkout, package by package."""
    for package in ("hpo", "trainers", "reports"):
        modules = read(root, [package])
        graph = arrows(modules)
        folders: dict[str, int] = {}
        for module in modules.values():
            if not module.path.endswith("__init__.py"):
                folder = module.path.rpartition("/")[0]
                folders[folder] = folders.get(folder, 0) + 1
        lazy = sum(one.lazy and one.module in modules for module in modules.values() for one in module.imports)
        print(
            f"{package}: {len(modules)} modules in {len(folders)} folders, at most {max(folders.values())} in one, "
            f"{floors(graph)} floors, {lazy} lazy imports, circles: {circles(graph) or 'none'}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2])
