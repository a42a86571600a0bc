"""Which code a measurement runs: a hash of the modules that it imports, comments and docstrings left out.

A number's key holds this hash, so that an edit throws away the numbers that it may change, and no others. Imports are
followed from module to module, within this package and within what a user brings. What an installed library holds is
not followed.

The tables of contents (`ops`, `backbones`, `heads`, `data` and `meters`) name everything. Of them the one function that
a cell runs is hashed, and what that function imports in its body is where following begins. What is declared in `spec`
comes into the key by its values. Not followed: compiled modules, files of data, what is imported by a name made at run
time.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

from acmix_bench import backbones, data, heads, meters, ops
from acmix_bench.spec import plugins
from acmix_bench.spec.axis import Axis
from acmix_bench.spec.cell import Row
from acmix_bench.spec.plugins import module_file

PACKAGE = Path(__file__).resolve().parent.parent
_fingerprint = cache(data.fingerprint)
_read: dict[Path, tuple[int, int]] = {}  # the files that are remembered, with their time and size when they were read
LEFT_OUT = {
    *(PACKAGE / table / "__init__.py" for table in ("ops", "backbones", "heads", "data", "meters")),
    *(PACKAGE / name for name in ("__init__.py", "errors.py")),
}
STDLIB = Path(sysconfig.get_path("stdlib")).resolve()
COMPILED = (".cpp", ".h")  # what a module builds lies beside it
OURS_TO_NEED = ("torch", "torchvision", "timm")  # a class of theirs may stand for an operator; their code is not hashed


def code_of(row: Row, meter: str) -> str:
    """The version of the code that a row runs for a meter, and of what is declared of its data set, its files too.

    Raises:
        UserError: for an unknown backbone, data set or meter.
    """
    variant, entry = row.variant, backbones.find(row.case.backbone)
    images, measured = data.find(row.case.data), meters.find(meter)
    formulation = ops.ATTENTIONS[entry.attention].make
    starts: list[Callable[..., Any] | Path] = [measured.measure, entry.build, PACKAGE / "meters" / "subject.py"]
    if "threads" in measured.reads:
        starts.append(PACKAGE / "meters" / "conditions.py")
    if "products" in measured.reads:
        starts.append(PACKAGE / "meters" / "numerics.py")
    if measured.is_timing:
        starts.append(PACKAGE / "meters" / "latency.py")
    if measured.reads_data:
        starts.append(images.load)
    if variant.is_own:
        reference = plugins.reference_of("operator", variant.operator) or ""
        starts += [file for file in [plugins.file_of(reference)] if file]
    elif variant.operator != "acmix" and entry.attention == "local":
        starts.append(ops.plain_convolution)
    elif variant.operator == "acmix" or entry.attention != "window":  # plain Swin keeps timm's own
        starts.append(formulation)
    if row.case.head:
        starts += [heads.find(row.case.head).build, heads.built, heads.as_network]
    if variant.runs.fuses:
        starts.append(PACKAGE / "backbones" / "fuse.py")
    starts += [apply for axis in variant.own_axes if (apply := plugins.find("axis", axis, {}, Axis).apply)]
    equal = variant.same_function() if meter == "parity" else None
    told = (images.channels, images.classes, images.task, variant.runs, equal and equal.content())
    files = (_fingerprint(row.case.data),) if images.fingerprint and measured.reads_data else ()
    return version_of(starts, told=told + files)


def version_of(starts: Iterable[Callable[..., Any] | Path], told: tuple[Any, ...] = ()) -> str:
    """Hash of the code behind functions and files, of the arguments bound to them, and of what else is told."""
    files: set[Path] = set()
    bound = [repr(told)]
    left = list(starts)
    while left:
        start = left.pop()
        if isinstance(start, Path):
            files.add(start)
        elif isinstance(start, partial):
            values = [*start.args, *(value for _, value in sorted(start.keywords.items()))]
            bound += [repr(sorted(start.keywords)), *(repr(value) for value in values if not callable(value))]
            left += [start.func, *filter(callable, values)]
        else:
            bound.append(getattr(start, "__qualname__", type(start).__qualname__))
            module = sys.modules.get(getattr(start, "__module__", None) or type(start).__module__)
            path = Path(getattr(module, "__file__", None) or "").resolve()
            if path not in LEFT_OUT:
                files |= {path} if path.suffix == ".py" else set()
                continue
            (function,) = (node for node in _tree(path).body if getattr(node, "name", "") == start.__name__)
            bound.append(ast.dump(function))
            files |= set(_imported_by(path, ast.walk(function)))
    modules = _closure(frozenset(files))
    sources = {
        file for folder in {path.parent for path in modules} for file in folder.glob("*") if file.suffix in COMPILED
    }
    parts = sorted(f"{path.name} {_content(path)}" for path in modules | sources)
    return hashlib.sha256("\n".join([*parts, *bound]).encode()).hexdigest()[:16]


def look_again(*, at_data: bool = False) -> None:
    """Forget what is remembered of the files with code, if one of them was written since it was read.

    Args:
        at_data: also what is remembered of data sets, whose files may be millions.
    """
    if at_data:
        _fingerprint.cache_clear()
    if any(_stamp(path) != stamp for path, stamp in list(_read.items())):
        _read.clear()
        for remembered in (_closure, _tree, _imported, _content):
            remembered.cache_clear()


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)


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
        imported = set(_imported(path))
        if PACKAGE not in path.parents:  # a user's code may call any function of a table of contents
            imported |= {file for table in imported & LEFT_OUT for file in _imported_by(table, ast.walk(_tree(table)))}
        left += [
            other
            for other in imported - LEFT_OUT
            if PACKAGE / "spec" not in other.parents
            and (PACKAGE in other.parents or _root(other) in roots or not _is_installed(_root(other).parent))
        ]
    return frozenset(found)


@cache
def _is_installed(folder: Path) -> bool:
    """Whether what lies in a folder is Python's own, or was installed there, and not written by the user."""
    if folder == STDLIB or STDLIB in folder.parents or {"site-packages", "dist-packages"} & set(folder.parts):
        return True
    return any(folder.glob("*.dist-info"))


def _root(path: Path) -> Path:
    """The outermost package that a file lies in; of a file in none, the file."""
    while (path.parent / "__init__.py").exists():
        path = path.parent
    return path


@cache
def _tree(path: Path) -> ast.Module:
    _read[path] = _stamp(path)
    try:
        return ast.parse(path.read_bytes())
    except (
        OSError,
        SyntaxError,
        ValueError,
        RecursionError,
        MemoryError,
    ):  # it will fail where it is imported, and say how
        return ast.Module(body=[], type_ignores=[])


@cache
def _imported(path: Path) -> tuple[Path, ...]:
    """The files of the modules that a module imports: one of this package at its head, a user's anywhere."""
    return _imported_by(path, _head(_tree(path).body) if PACKAGE in path.parents else ast.walk(_tree(path)))


def _imported_by(path: Path, nodes: Iterable[ast.AST]) -> tuple[Path, ...]:
    """The files of the modules that some statements of a file import, and of the packages that these lie in."""
    found: set[Path | None] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names, folders = [alias.name for alias in node.names], [str(_root(path).parent), ""]
        elif isinstance(node, ast.ImportFrom):
            names = [".".join(filter(None, (node.module, alias.name))) for alias in node.names]
            # A dot is the folder of the file, another one the folder above.
            folders = [str(path.parents[node.level - 1])] if node.level else [str(_root(path).parent), ""]
        else:
            continue
        for words in (name.split(".") for name in names):
            for end in range(1, len(words) + 1):
                found.add(next(filter(None, (module_file(".".join(words[:end]), place) for place in folders)), None))
    return tuple(sorted(filter(None, found)))


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
    """Hash of a module's code without comments and docstrings, or of a source as it is."""
    if path.suffix in COMPILED:
        _read[path] = _stamp(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()
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
