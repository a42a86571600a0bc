"""Which code a measurement runs: a hash of the modules that it imports, comments and docstrings left out.

A number's key holds this hash, so that an edit throws away the numbers that it may change, and no others. Imports are
followed from module to module, within this package and within what a user brings. What an installed library holds is
not followed.

The tables of contents (`ops`, `backbones`, `data` and `meters`) name everything and run nothing: they are left out, and
import what an entry needs in the body of a function. So the one entry that a cell runs is where following it begins.
What is declared in `spec` comes into the key by its values.
"""

from __future__ import annotations

import ast
import dis
import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

from acmix_bench import backbones, data, meters, ops
from acmix_bench.spec import plugins
from acmix_bench.spec.axis import Axis
from acmix_bench.spec.cell import Row
from acmix_bench.spec.plugins import module_file

PACKAGE = Path(__file__).resolve().parent.parent
LEFT_OUT = {
    *(PACKAGE / table / "__init__.py" for table in ("ops", "backbones", "data", "meters")),
    *(PACKAGE / name for name in ("__init__.py", "errors.py")),
}
LIBRARIES = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
OURS_TO_NEED = ("torch", "torchvision", "timm")  # a class of theirs may stand for an operator; their code is not hashed


def code_of(row: Row, meter: str) -> str:
    """The version of the code that a row runs for a meter, and of what is declared of its data set.

    Raises:
        UserError: for an unknown backbone, data set or meter.
    """
    variant, entry = row.variant, backbones.find(row.case.backbone)
    images, measured = data.find(row.case.data), meters.find(meter)
    formulation = ops.ATTENTIONS[entry.attention].make
    starts: list[Callable[..., Any] | Path] = [measured.measure, PACKAGE / "meters" / "conditions.py", entry.build]
    starts.append(PACKAGE / "meters" / "subject.py")
    if measured.is_timing:
        starts.append(PACKAGE / "meters" / "latency.py")
    if measured.reads_data:
        starts.append(images.load)
    if variant.is_own:
        reference = plugins.reference_of("operator", variant.operator) or ""
        starts += [file for file in [plugins.file_of(reference)] if file]
    elif variant.operator == "acmix" or entry.attention != "local":
        starts.append(formulation)
    else:
        starts.append(ops.plain_convolution)
    if variant.runs.fuses:
        starts.append(PACKAGE / "backbones" / "fuse.py")
    starts += [apply for axis in variant.own_axes if (apply := plugins.find("axis", axis, {}, Axis).apply)]
    return version_of(starts, told=(images.channels, images.classes))


def version_of(starts: Iterable[Callable[..., Any] | Path], told: tuple[Any, ...] = ()) -> str:
    """Hash of the code behind functions and files, of the arguments bound to them, and of what else is told."""
    files: set[Path] = set()
    bound = [repr(told)]
    for start in starts:
        if isinstance(start, partial):
            bound.append(repr((start.args, sorted(start.keywords.items()))))
            start = start.func
        files |= {start} if isinstance(start, Path) else set(files_behind(start))
    return _hash_of(frozenset(_closure(frozenset(files))), tuple(bound))


def files_behind(function: Callable[..., Any]) -> list[Path]:
    """Where a function's code is: what it imports in its body where a table of contents holds it, else its module."""
    module = sys.modules.get(getattr(function, "__module__", None) or type(function).__module__)
    path = Path(getattr(module, "__file__", None) or "").resolve()
    if path not in LEFT_OUT:
        return [path] if path.suffix == ".py" else []
    names = [step.argval for step in dis.get_instructions(function) if step.opname == "IMPORT_NAME"]
    return [found for name in names if (found := module_file(name))]


@cache
def _hash_of(files: frozenset[Path], bound: tuple[str, ...]) -> str:
    parts = sorted(f"{path.name} {_content(path)}" for path in files)
    return hashlib.sha256("\n".join([*parts, *bound]).encode()).hexdigest()[:16]


@cache
def _closure(starts: frozenset[Path]) -> frozenset[Path]:
    """The files, and all that they import, from module to module."""
    found: set[Path] = set()
    left = [path for path in starts if path not in LEFT_OUT and _root(path).name not in OURS_TO_NEED]
    roots = {_root(path) for path in left}
    while left:
        path = left.pop()
        if path in found:
            continue
        found.add(path)
        left += [
            other
            for other in _imported(path)
            if other not in LEFT_OUT
            and PACKAGE / "spec" not in other.parents
            # This package's or a user's, and not an installed library's.
            and (PACKAGE in other.parents or _root(other) in roots or LIBRARIES.isdisjoint(other.parents))
        ]
    return frozenset(found)


def _root(path: Path) -> Path:
    """The outermost package that a file lies in; of a file in none, the file."""
    while (path.parent / "__init__.py").exists():
        path = path.parent
    return path


@cache
def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError):  # it will fail where it is imported, and say how
        return ast.Module(body=[], type_ignores=[])


@cache
def _imported(path: Path) -> tuple[Path, ...]:
    """The files of the modules that a module imports: one of this package at its head, a user's anywhere."""
    names: list[str] = []
    top = _root(path).parent
    package = path.relative_to(top).parent.parts
    for node in _head(_tree(path).body) if PACKAGE in path.parents else ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            start = [*above, *([node.module] if node.module else [])]
            names += [".".join([*start, alias.name]) for alias in node.names]
    # Importing a.b.c runs a and a.b too.
    words = [name.split(".") for name in names]
    paths = {".".join(parts[:end]) for parts in words for end in range(1, len(parts) + 1)}
    return tuple(found for name in sorted(paths) if (found := module_file(name, str(top)) or module_file(name)))


def _head(body: list[ast.stmt]) -> Iterable[ast.stmt]:
    """The statements that run when a module is imported, those in `if` and `try` among them."""
    for node in body:
        yield node
        if isinstance(node, ast.If):
            yield from _head(node.orelse if "TYPE_CHECKING" in ast.dump(node.test) else [*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            yield from _head([*node.body, *(s for handler in node.handlers for s in handler.body), *node.orelse])
        elif isinstance(node, ast.With):
            yield from _head(node.body)


@cache
def _content(path: Path) -> str:
    """Hash of a module's code without comments and docstrings."""
    tree = _tree(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
