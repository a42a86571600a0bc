"""What a user brings: an operator, backbone, data set, meter or axis, found by name or by reference.

A reference is `package.module:name`, or `path/to/file.py:name`. A name of its own has what an installed package enters
under one of the entry point groups `acmix_bench.operators`, `.backbones`, `.data`, `.meters` and `.axes`. Nothing of a
user's is imported before it is asked for.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pydantic import ValidationError

from acmix_bench.errors import UserError, unknown
from acmix_bench.files import is_file

Declaration = TypeVar("Declaration")
GROUPS = {
    "operator": "acmix_bench.operators",
    "backbone": "acmix_bench.backbones",
    "head": "acmix_bench.heads",
    "data set": "acmix_bench.data",
    "meter": "acmix_bench.meters",
    "axis": "acmix_bench.axes",
}
FILE_HINT = "write package.module:NAME or path/to/file.py:NAME"


@cache
def installed(kind: str) -> Mapping[str, EntryPoint]:
    """What installed packages enter as an operator, backbone, head, data set, meter or axis; none is imported."""
    return {entry.name: entry for entry in entry_points(group=GROUPS[kind])} if kind in GROUPS else {}


def origin(entry: EntryPoint) -> str:
    """Where an entry is from, in words."""
    return f"{entry.value}, from {entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def find(
    kind: str, name: str, ours: Mapping[str, Declaration], form: type[Declaration], *, hint: str = ""
) -> Declaration:
    """A declaration by name or by reference; `hint` is told where the reference leads to something else.

    Raises:
        UserError: for an unknown name, a reference that leads nowhere, or one to something else.
    """
    if name in ours:
        return ours[name]
    found = load(kind, name, known=ours)
    if not isinstance(found, form):
        raise UserError(
            f"{kind} '{name}' is {_a(type(found).__name__)}, but must be {_a(form.__name__)} of acmix_bench{hint}"
        )
    return found


def load(kind: str, name: str, *, known: Mapping[str, Any]) -> Any:
    """The object that a name or a reference stands for.

    Raises:
        UserError: naming the known ones, or why it cannot be imported.
    """
    reference = reference_of(kind, name)
    if reference is None:
        raise unknown(kind, name, [*known, *installed(kind), "package.module:NAME", "file.py:NAME"])
    return _attribute(kind, reference)


def reference_of(kind: str, name: str) -> str | None:
    """The reference that a name stands for: the name itself where it is one; None where nobody knows it."""
    if name in installed(kind):
        return installed(kind)[name].value
    return name if ":" in name else None


def check_reference(kind: str, reference: str) -> None:
    """Check that a reference leads to a file, without importing any of it.

    Raises:
        UserError: saying what is not there.
    """
    if file_of(reference) is None:
        place = reference.rpartition(":")[0]
        told = "there is no such file" if place.endswith(".py") else f"there is no Python module named '{place}'"
        raise UserError(f"{kind} '{reference}': {told}; {FILE_HINT}")


def file_of(reference: str) -> Path | None:
    """The Python file that a reference leads to, without importing any of it; None where there is none."""
    place = reference.rpartition(":")[0]
    if place.endswith(".py"):
        path = Path(place).expanduser()
        return path.resolve() if is_file(path) else None
    return module_file(place)


@cache
def module_file(name: str, folder: str = "") -> Path | None:
    """The file of a module by its dotted name; None for one that is built in, compiled, or not there.

    Args:
        folder: the only place to look in; everywhere that Python looks where not given.
    """
    parts = name.split(".")
    for entry in [folder] if folder else sys.path:
        path = Path(entry or ".").resolve().joinpath(*parts)
        for candidate in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if is_file(candidate):
                return candidate
    if folder or not all(part.isidentifier() for part in parts):
        return None
    # An editable install may have a finder of its own. The outermost package is found without being imported.
    try:
        spec = importlib.util.find_spec(parts[0])
    except (ImportError, ValueError):  # such as __main__
        return None
    if len(parts) == 1:
        return Path(spec.origin).resolve() if spec and spec.origin and spec.origin.endswith(".py") else None
    places = spec.submodule_search_locations or [] if spec else []
    return next((found for place in places if (found := module_file(".".join(parts[1:]), place))), None)


@cache
def _attribute(kind: str, reference: str) -> Any:
    place, _, names = reference.rpartition(":")
    if not names.replace(".", "_").isidentifier():
        raise UserError(f"{kind} '{reference}': {FILE_HINT}")
    found: Any = _module(kind, place)
    for name in names.split("."):
        if not hasattr(found, name):
            known = [word for word in vars(found) if not word.startswith("_")] if hasattr(found, "__dict__") else []
            raise unknown("name", name, known[:20], where=f"{kind} '{reference}'")
        found = getattr(found, name)
    return found


def _module(kind: str, place: str) -> ModuleType:
    """Import a module, or a file as one. What its code raises is told in one line."""
    where = f"{kind} '{place}'"
    try:
        if not place.endswith(".py"):
            with redirect_stdout(sys.stderr):  # what it prints is no result
                return importlib.import_module(place)
        path = Path(place).expanduser().resolve()
        if not is_file(path):
            raise UserError(f"{where}: there is no such file")
        name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))  # what lies beside it can be imported
        try:
            with redirect_stdout(sys.stderr):
                spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module
    except UserError:
        raise
    except ModuleNotFoundError as error:
        told = f"there is no module named '{error.name}'" if error.name else str(error)
        hint = f"; {FILE_HINT}" if error.name == place.partition(".")[0] else ""
        raise UserError(f"{where}: {told}{hint}") from error
    except ValidationError as error:  # of a declaration
        first = error.errors()[0]
        told = f"{error.title}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UserError(f"{where}: {told}") from error
    except (Exception, SystemExit) as error:  # whatever a user's module raises when it is imported
        line = getattr(error, "lineno", None)
        told = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"{where}: cannot be imported ({type(error).__name__}: {told}{f', line {line}' if line else ''})"
        ) from error


def _a(word: str) -> str:
    return f"an {word}" if word[:1] in "AEIOUaeiou" else f"a {word}"
