"""Which source a result depends on, read from the imports of the modules that make it.

A module's source is parsed, never run. It brings in the modules that it imports, at its top or
within a function, those that they import, and the packages that all of these lie in. Imports for
type checkers alone bring in nothing. Of each module everything counts but docstrings and comments.

A package that does nothing but import what its `__all__` lists is a front: a name taken from it
brings in the module that the name comes from, and neither the front nor what else it imports.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path

PACKAGES = ("exporters", "nsedge")
WITHOUT_EFFECT = frozenset(
    {
        *("exporters.cache", "exporters.code", "exporters.outputs"),
        *("exporters.errors", "exporters.progress", "nsedge.errors", "nsedge.version"),
    }
)
"""Modules that decide where a result lies and what is said on the way to it, not what it is: a
failure leaves no result, and keys change with what goes into them."""


def code_digest(*modules: str) -> str:
    """A hash of the source behind these modules: new code makes new results.

    Name the module whose function makes the result, as it is imported.

    Raises:
        LookupError: there is no such module.
    """
    return _project().digest(*modules)


@functools.cache
def _project() -> SourceTree:
    return SourceTree(Path(__file__).parents[1], PACKAGES, without_effect=WITHOUT_EFFECT)


class SourceTree:
    """The source of `packages`, which are folders of `root`."""

    def __init__(
        self, root: Path, packages: Collection[str], *, without_effect: Collection[str] = ()
    ) -> None:
        self._root = root
        self._packages = frozenset(packages)
        self._without_effect = frozenset(without_effect)
        self._parsed: dict[str, ast.Module] = {}
        self._fronts: dict[str, dict[str, tuple[str, str]]] = {}

    def digest(self, *modules: str) -> str:
        """A hash of all that is `behind` these modules.

        Raises:
            LookupError: there is no such module.
        """
        digest = hashlib.sha256()
        for name in sorted(self.behind(*modules)):
            digest.update(f"{name}\0{ast.dump(self._parsed[name])}\n".encode())
        return digest.hexdigest()

    def behind(self, *modules: str) -> frozenset[str]:
        """These modules and those that they import, by name, however many steps away.

        Raises:
            LookupError: there is no such module.
        """
        for name in modules:
            if self._path(name) is None:
                raise LookupError(f"there is no module {name} below {self._root}")
        found: set[str] = set()
        waiting = list(modules)
        while waiting:
            name = waiting.pop()
            if name in found or name in self._without_effect or self._path(name) is None:
                continue
            found.add(name)
            waiting.extend(self._imported(name))
        return frozenset(found)

    def _path(self, name: str) -> Path | None:
        """Where the source of a module is; None for what is no module of the packages."""
        if name.partition(".")[0] not in self._packages:
            return None
        place = self._root.joinpath(*name.split("."))
        candidates = (place / "__init__.py", place.with_suffix(".py"))
        return next((path for path in candidates if path.is_file()), None)

    def _imported(self, name: str) -> Iterator[str]:
        """What the module `name` imports, and the packages of that; it may be no module at all."""
        yield from self._around(name)
        for node in _run(self._tree(name)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.name
                    yield from self._around(alias.name)
            elif isinstance(node, ast.ImportFrom):
                source = self._source(name, node)
                for alias in node.names:
                    yield from self._taken(source, alias.name)

    def _taken(self, source: str, name: str) -> Iterator[str]:
        """What `from source import name` brings in."""
        front = self._front(source)
        origin = front.get(name, (source, name))
        if origin != (source, name):
            yield from self._taken(*origin)
            return
        module = f"{source}.{name}"
        yield module
        yield from self._around(module)
        if front and self._path(module) is None:
            yield source

    def _around(self, name: str) -> Iterator[str]:
        """`a` and `a.b` of `a.b.c`, but for fronts: to import a module runs the packages that it
        lies in."""
        parts = name.split(".")
        packages = (".".join(parts[:end]) for end in range(1, len(parts)))
        return (package for package in packages if not self._front(package))

    def _front(self, package: str) -> dict[str, tuple[str, str]]:
        """Of a front, where each name comes from: its module, and its name there. Empty for what is
        none."""
        if package not in self._fronts:
            path = self._path(package)
            is_package = path is not None and path.name == "__init__.py"
            body = self._tree(package).body if is_package else []
            is_front = any(map(_lists_all, body)) and all(
                isinstance(node, ast.ImportFrom) or _lists_all(node) for node in body
            )
            self._fronts[package] = {
                alias.asname or alias.name: (self._source(package, node), alias.name)
                for node in body
                if is_front and isinstance(node, ast.ImportFrom)
                for alias in node.names
            }
        return self._fronts[package]

    def _source(self, importer: str, node: ast.ImportFrom) -> str:
        """The absolute name of what `node` imports from."""
        if not node.level:
            return node.module or ""
        path = self._path(importer)
        is_package = path is not None and path.name == "__init__.py"
        above = importer.split(".")
        above = above[: len(above) - node.level + is_package]
        return ".".join([*above, *filter(None, [node.module])])

    def _tree(self, name: str) -> ast.Module:
        """The module without its docstrings."""
        if name not in self._parsed:
            path = self._path(name)
            if path is None:
                raise LookupError(f"there is no module {name} below {self._root}")
            tree = ast.parse(path.read_bytes(), filename=str(path))
            self._parsed[name] = _Undocumented().visit(tree)
        return self._parsed[name]


class _Undocumented(ast.NodeTransformer):
    """Takes out texts that stand by themselves: they do nothing."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Nothing in the place of such a text."""
        value = node.value
        is_text = isinstance(value, ast.Constant) and isinstance(value.value, str)
        return None if is_text else self.generic_visit(node)


def _lists_all(node: ast.AST) -> bool:
    """Whether it is `__all__ = ...`."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)] == ["__all__"]


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """`node` and every node within it, but for the bodies of `if TYPE_CHECKING:`."""
    yield node
    within: Iterator[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and _is_for_type_checkers(node.test):
        within = iter(node.orelse)
    for child in within:
        yield from _run(child)


def _is_for_type_checkers(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )
