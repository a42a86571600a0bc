"""What a shell offers when Tab is pressed. Each function takes the word so far and gives what it may become."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import get_args

from acmix_bench import registered
from acmix_bench.registered import OURS, all_names
from acmix_bench.spec import library, plugins
from acmix_bench.spec.variant import IMPLEMENTATIONS, Variant

Completion = Callable[[str], list[str]]


def _beginning(word: str, names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(word)]


def experiments(incomplete: str) -> list[str]:
    """Experiments by name."""
    return _beginning(incomplete, library.known("experiment"))


def claims(incomplete: str) -> list[str]:
    """Claims by name."""
    return _beginning(incomplete, registered.claims())


def variants(incomplete: str) -> list[str]:
    """Variants by name, and axes with the values that they are known to have."""
    names: list[str] = list(library.known("variant"))
    for axis in OURS["axis"]:
        named: dict[str, Iterable[str]] = {"implementation": IMPLEMENTATIONS, "operator": OURS["operator"]}
        values = named.get(axis, get_args(Variant.model_fields[axis].annotation))
        names += [f"{axis}={value}" for value in values if isinstance(value, str)] or [f"{axis}="]
    return _beginning(incomplete, names)


def models(incomplete: str) -> list[str]:
    """Backbones; behind one and a hyphen, its variants; behind a plus, heads."""
    if "+" in incomplete:
        model = incomplete.rpartition("+")[0]
        return _beginning(incomplete, [f"{model}+{head}" for head in OURS["head"]])
    known = [name for name in (*OURS["backbone"], *plugins.installed("backbone")) if name != "operator-C"]
    known += [f"operator-{channels}" for channels in (64, 128, 256, 512)]
    begun = [name for name in known if incomplete.startswith(f"{name}-")]
    return _beginning(incomplete, [*known, *(f"{name}-{v}" for name in begun for v in library.known("variant"))])


def settings(incomplete: str) -> list[str]:
    """Keys of --set."""
    return _beginning(incomplete, [f"{key}=" for key in library.settings()])


def names(incomplete: str) -> list[str]:
    """All that `show` takes."""
    return _beginning(incomplete, [*all_names(), *models(incomplete)])


def runs(incomplete: str) -> list[str]:
    """Runs by their names below the results folder, or by their folders."""
    named = (path.parent.name for path in sorted(Path("results").glob("*/run.json")))
    folders = (str(path.parent) for path in sorted(Path().glob("*/*/run.json")))
    return _beginning(incomplete, [*named, *folders])


def one_of(*words: str) -> Completion:
    """Of a few fixed words."""
    return lambda incomplete: _beginning(incomplete, words)
