"""Reads what Python source says of itself, by its syntax tree. Nothing of it is ever run or imported."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

LARGEST = 2_000_000
_ASKED_OF = {"environ", "env", "environment", "config", "getenv"}  # os.environ, django-environ, decouple
_KINDS = {
    "get", "str", "bool", "int", "float", "list", "tuple", "dict", "json", "url", "db", "db_url", "cache", "cache_url",
    "email", "email_url", "search_url", "path", "bytes", "decimal", "unicode", "log_level", "timedelta",
}  # fmt: skip


@dataclass(frozen=True)
class Variable:
    """One environment variable that the source reads."""

    name: str
    needed: bool  # there is no default: without it, the read fails


@dataclass
class Source:
    """One module: its syntax tree, and what it assigns at the top (later ones win), with the file it stands in."""

    path: Path
    tree: ast.Module
    names: dict[str, tuple[ast.expr, Path]] = field(default_factory=dict)


def read(path: Path) -> Source | None:
    """Parse one file; None when it is missing, too large, or no Python of this version."""
    try:
        if path.is_symlink() or path.stat().st_size > LARGEST:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a repository's own doubtful escapes are no news here
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    source = Source(path, tree)
    for statement in _top(tree.body):
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    source.names[target.id] = (statement.value, path)
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            source.names[statement.target.id] = (statement.value, path)
    return source


def _top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements at the top, and below `if` and `try` there."""
    for statement in body:
        yield statement
        if isinstance(statement, (ast.If, ast.Try)):
            yield from _top([*statement.body, *statement.orelse])


def text(node: ast.AST | None) -> str:
    """The value of a string constant; "" for anything else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def texts(node: ast.AST | None) -> list[str]:
    """Every string constant in an expression."""
    return [text(each) for each in ast.walk(node) if text(each)] if node is not None else []


def settings_module(source: Source) -> str:
    """What the file gives to DJANGO_SETTINGS_MODULE; "" when it does not, or not as a constant."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and [text(word) for word in node.args[:1]] == ["DJANGO_SETTINGS_MODULE"]:
            found = text(node.args[1]) if len(node.args) > 1 else ""
            if found:
                return found
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(target, ast.Subscript) and text(target.slice) == "DJANGO_SETTINGS_MODULE":
            return text(getattr(node, "value", None))
    return ""


def star_imports(source: Source) -> list[tuple[str, bool]]:
    """Modules whose every name is taken over, as written with leading dots, and whether they may be missing."""
    optional = {id(inner) for node in ast.walk(source.tree) if isinstance(node, ast.Try) for inner in ast.walk(node)}
    return [
        ("." * node.level + (node.module or ""), id(node) in optional)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
    ]


def variables(source: Source) -> list[Variable]:
    """The environment variables that the file reads, each once; needed wins over one with a default.

    One that is read only below an `if` that asks for it is not needed.
    """
    found: dict[str, bool] = {}
    asked = _asked_for(source)
    for node in ast.walk(source.tree):
        name, needed = "", False
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.ctx, ast.Load)
            and _last(node.value) in ("environ", "env")
        ):
            name, needed = text(node.slice), True
        elif isinstance(node, ast.Call) and node.args:
            called, owner = _last(node.func), ""
            if isinstance(node.func, ast.Attribute):
                owner = _last(node.func.value)
            default = len(node.args) > 1 or any(word.arg == "default" for word in node.keywords)
            if called in ("get", "getenv") and (owner in ("environ", "os") or called == "getenv"):
                name = text(node.args[0])
            elif (called in _KINDS and owner.lower() in _ASKED_OF) or (not owner and called.lower() in _ASKED_OF):
                name, needed = text(node.args[0]), not default
        if name.isidentifier() and name.upper() == name:
            found[name] = found.get(name, False) or (needed and name not in asked.get(id(node), ()))
    return [Variable(name, needed) for name, needed in sorted(found.items())]


def _asked_for(source: Source) -> dict[int, set[str]]:
    """For each node below an `if`, the texts in its question: `if os.environ.get("X"):`, `if "X" in os.environ:`."""
    asked: dict[int, set[str]] = {}
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.If, ast.IfExp)):
            for part in node.body if isinstance(node, ast.If) else [node.body]:
                for inner in ast.walk(part):
                    asked.setdefault(id(inner), set()).update(texts(node.test))
    return asked


def _last(node: ast.AST) -> str:
    """`environ` of `os.environ`, `env` of `env`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def path_of(source: Source, name: str, top: Path) -> PurePosixPath | None:
    """The path that a setting means, by its usual forms; below `top` it is relative, elsewhere absolute.

    Knows Path(__file__), its parents, os.path, `/`, joins, names assigned above, and the default of a variable
    of the environment. None when it is anything else, or the current folder.
    """
    return path_in(source, *source.names[name], top) if name in source.names else None


def path_in(source: Source, node: ast.expr, here: Path, top: Path) -> PurePosixPath | None:
    """`path_of` for an expression that stands in the file `here`."""
    found = _path(source, node, here, 0)
    if found is None:
        return None
    parts: list[str] = []
    for part in found.parts:
        if part == ".." and parts:
            parts.pop()
        elif part != "..":
            parts.append(part)
    found = PurePosixPath(*parts)
    found = found.relative_to(top) if found.is_relative_to(top) else found
    return found if found.parts else None


def _path(source: Source, node: ast.AST | None, here: Path, depth: int) -> PurePosixPath | None:
    if node is None or depth > 30:
        return None

    def of(inner: ast.AST | None) -> PurePosixPath | None:
        return _path(source, inner, here, depth + 1)

    if text(node):
        return PurePosixPath(text(node))
    if isinstance(node, ast.Name):
        if node.id == "__file__":
            return PurePosixPath(here)
        value, there = source.names.get(node.id, (None, here))
        return _path(source, value, there, depth + 1)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Div, ast.Add)):
        left, right = of(node.left), of(node.right)
        if left is None or right is None:
            return None
        return left / right if isinstance(node.op, ast.Div) else PurePosixPath(f"{left}{right}")
    if isinstance(node, ast.BoolOp):
        return next((found for each in node.values if (found := of(each)) is not None), None)
    if isinstance(node, ast.Attribute) and node.attr == "parent":
        inner = of(node.value)
        return inner.parent if inner is not None else None
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "parents":
        inner, index = of(node.value.value), node.slice
        steps = index.value if isinstance(index, ast.Constant) and isinstance(index.value, int) else -1
        return inner.parents[steps] if inner is not None and 0 <= steps < len(inner.parents) else None
    return _called(node, of) if isinstance(node, ast.Call) else None


def _called(node: ast.Call, of: Callable[[ast.AST | None], PurePosixPath | None]) -> PurePosixPath | None:
    """A call in a path: of the kinds that settings files use."""
    name, words = _last(node.func), [of(word) for word in node.args]
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    if name in ("Path", "PurePath", "str", "abspath", "realpath", "normpath", "fspath") and words:
        return words[0]
    if name == "dirname" and words:
        return words[0].parent if words[0] is not None else None
    if name in ("resolve", "absolute", "as_posix"):
        return of(owner)
    if name in ("join", "joinpath"):
        known = [word for word in (words if name == "join" else [of(owner), *words]) if word is not None]
        return PurePosixPath(*known) if len(known) == len(words) + (name == "joinpath") and known else None
    if name in ("get", "getenv") and len(words) > 1:
        return words[1]
    return of(next((word.value for word in node.keywords if word.arg == "default"), None))
