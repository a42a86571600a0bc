"""The import direction: a module imports only what is listed before it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import acmix_bench

ROOT = Path(acmix_bench.__file__).parent
# From the bottom up. A package stands for its modules, but for its __init__ where that is listed itself.
LAYERS = [
    "errors",
    "ops",
    "strict",
    "meters.__init__",
    "meters.turns",
    "spec",
    "data.__init__",
    "data",
    "backbones.__init__",
    "backbones",
    "weights",
    "stats",
    "rounding",
    "record",
    "compare",
    "gate",
    "published",
    "table",
    "figure",
    "progress",
    "meters",
    "launch",
    "ablate",
    "regress",
    "cli",
    "__main__",
]
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def layer(module: str) -> int:
    if module not in LAYERS:
        module = module.partition(".")[0]
    return LAYERS.index(module)


def imported(path: Path) -> set[str]:
    """What a module imports of this package, however it writes it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path} imports relatively; write the whole name")
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "acmix_bench":
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("acmix_bench.")}
    return {resolved(name.removeprefix("acmix_bench.").split(".")) for name in found}


def resolved(parts: list[str]) -> str:
    """The module that a dotted name lies in."""
    for end in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:end])
        if path.is_dir():
            return ".".join([*parts[:end], "__init__"])
        if path.with_suffix(".py").exists():
            return ".".join(parts[:end])
    return "errors" if parts == ["__version__"] else ".".join(parts)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_downward_only(path: Path) -> None:
    module = name_of(path)
    for name in imported(path):
        beside = layer(name) == layer(module) and "." in module
        assert layer(name) < layer(module) or beside, f"{module} imports {name}"


def test_operators_depend_on_nothing_but_errors() -> None:
    for path in (ROOT / "ops").glob("*.py"):
        assert {name for name in imported(path) if not name.startswith("ops")} <= {"errors"}


def test_every_module_has_a_layer() -> None:
    assert all(layer(name_of(path)) >= 0 for path in MODULES)
