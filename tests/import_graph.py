"""Which file of the package imports which, those for type checkers only included, and where that goes in circles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEMPLATES = Path("hypervisor/cli/init/templates")
"""Of projects of others: their Python is data of the package."""


def modules(root: Path = ROOT) -> dict[str, Path]:
    """The package's modules by their names."""
    found = {}
    for path in sorted((root / "hypervisor").rglob("*.py")):
        if path.is_relative_to(root / TEMPLATES):
            continue
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path = ROOT) -> dict[str, set[str]]:
    """For each module those that it imports, wherever the statement stands."""
    known = modules(root)
    return {name: set(_imported(path, known)) - {name} for name, path in known.items()}


def _imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if f"{node.module}.{alias.name}" in known:
                    yield f"{node.module}.{alias.name}"
                elif node.module in known:
                    yield node.module


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The sets of modules, of two or more, each of which leads to each other one: Tarjan's algorithm."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    found = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        path.append(node)
        for following in sorted(graph[node]):
            if following not in order:
                visit(following)
                low[node] = min(low[node], low[following])
            elif following in path:
                low[node] = min(low[node], order[following])
        if low[node] == order[node]:
            at = path.index(node)
            members = sorted(path[at:])
            del path[at:]
            if len(members) > 1:
                found.append(members)

    for node in sorted(graph):
        if node not in order:
            visit(node)
    return found
