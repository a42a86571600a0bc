"""Commands that show what can be named: list, show."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from acmix_bench import backbones, data
from acmix_bench.cli import complete
from acmix_bench.cli.common import JsonOption, is_watched
from acmix_bench.errors import UserError, unknown
from acmix_bench.ops.native import build
from acmix_bench.registered import FORMS, OURS, all_names, claims
from acmix_bench.spec import library, plugins, strict
from acmix_bench.spec.axis import Axis
from acmix_bench.spec.cell import Row
from acmix_bench.spec.claim import Claim
from acmix_bench.spec.variant import AXES, IMPLEMENTATIONS, Variant


def _files(kind: str, summary: Any) -> dict[str, str]:
    """Named files with their first line, and (yours) behind those of the working folder."""
    told: dict[str, str] = {}
    for name, file in library.known(kind).items():
        try:
            told[name] = summary(name) + " (yours)" * file.is_own
        except UserError as error:  # one that cannot be read hides none of the others
            told[name] = f"(yours; {error})"
    return told


def _entries(kind: str) -> dict[str, str]:
    """What this package and installed ones declare; theirs is not imported, so that its place stands for a summary."""
    ours = {name: _summary(entry) for name, entry in OURS[kind].items()}
    return ours | {name: f"({plugins.origin(entry)})" for name, entry in plugins.installed(kind).items()}


def _summary(entry: Any) -> str:
    if isinstance(entry, str):
        return entry
    told: str = entry.meaning if isinstance(entry, Axis) else entry.summary
    return told


SECTIONS: dict[str, tuple[str, Callable[[], Mapping[str, str]]]] = {
    "variants": ("Variants", partial(_files, "variant", lambda name: library.load_variant(name).summary)),
    "experiments": ("Experiments", partial(_files, "experiment", lambda name: library.load_experiment(name).question)),
    "claims": ("Claims, which the command claims tests", lambda: {c.name: c.statement for c in claims().values()}),
    "recipes": ("Recipes of training", partial(_files, "recipe", lambda name: library.load_recipe(name).summary)),
    "published": (
        "Published figures",
        partial(_files, "published", lambda _: "as printed, and as counted on the released code"),
    ),
    "operators": ("Operators", partial(_entries, "operator")),
    "backbones": ("Backbones", partial(_entries, "backbone")),
    "heads": ("Heads of dense tasks, BACKBONE-VARIANT+HEAD", partial(_entries, "head")),
    "data": ("Data sets", partial(_entries, "data set")),
    "meters": ("Meters", partial(_entries, "meter")),
    "axes": ("Axes of --variant", partial(_entries, "axis")),
    "settings": ("Keys of --set", library.settings),
}


def list_names(
    section: Annotated[
        str | None,
        typer.Argument(
            metavar="[SECTION]",
            help=f"One of: {', '.join(SECTIONS)}.",
            autocompletion=complete.one_of(*SECTIONS),
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List variants, experiments, claims, recipes, operators, backbones, data sets, meters, axes, and whose each is.

    \b
    Examples:
      acmix-bench list
      acmix-bench list backbones
      acmix-bench list variants --json
    """
    if section is not None and section not in SECTIONS:
        raise unknown("section", section, SECTIONS)
    told = {name: entries() for name, (_, entries) in SECTIONS.items() if section in (None, name)}
    if as_json:
        print(json.dumps(told, indent=1, ensure_ascii=False))
        return
    width = shutil.get_terminal_size().columns if is_watched() else None
    for number, (name, entries) in enumerate(told.items()):
        title = SECTIONS[name][0]
        print("\n" * bool(number) + (title if width is None else f"\x1b[1m{title}\x1b[0m"))
        for entry, summary in entries.items():
            line = f"  {entry:<20} {summary}"
            print(line if width is None else textwrap.fill(line, width, subsequent_indent=" " * 23))


def show(
    name: Annotated[
        str,
        typer.Argument(
            help="A name that list prints, or a reference to something of your own.", autocompletion=complete.names
        ),
    ],
) -> None:
    """Show one variant, experiment, claim, recipe, published table, operator, backbone, data set, meter, axis or model.

    \b
    Examples:
      acmix-bench show paths
      acmix-bench show resnet50-acmix
      acmix-bench show mine.py:MyBackbone
    """
    found = False
    for kind in library.FOLDERS:
        if file := library.known(kind).get(name):
            print(f"# {file.place}\n{strict.text_of(file.path, file.place).rstrip()}")
            found = True
    if claim := claims().get(name):
        _print_claim(claim)
        found = True
    if name in library.settings():
        print(f"{name}: {library.settings()[name]} (--set {name}=...)")
        found = True
    for kind, ours in OURS.items():
        if name in ours or name in plugins.installed(kind):
            _print_entry(kind, name, ours[name] if name in ours else plugins.load(kind, name, known=ours))
            found = True
    if data.is_own(name) and not found:
        _print_entry("data set", name, data.find(name))
    elif ":" in name and not found:
        entry = plugins.load("name", name, known={})
        _print_entry(FORMS.get(type(entry), "operator"), name, entry)
    elif not found and (model := _model(name)):
        _print_model(model)
    elif not found:
        raise unknown("name", name, all_names())


def _model(name: str) -> Row | None:
    """What a name means as a model's, as resnet50-acmix or operator-64@56; None where it begins with no backbone.

    Raises:
        UserError: for a model's name with a mistake in the rest of it.
    """
    try:
        return backbones.find_model(name)
    except UserError as error:
        if str(error).startswith("unknown backbone"):
            return None
        raise


def _print_claim(claim: Claim) -> None:
    """A claim, and its rules as they are written down."""
    print(f"{claim.name}: {claim.statement}\n  source: {claim.source}\n  here: {claim.here}")
    for rule in claim.rules:
        told = {"kind": rule.kind, **rule.model_dump(mode="json", exclude_unset=True)}
        print(f"  - {', '.join(f'{key}: {value}' for key, value in told.items())}")


def _print_model(row: Row) -> None:
    """A model: its backbone, what its variant changes, and the papers' figures."""
    from acmix_bench.analysis.published import figures_of

    case, changes = row.case, row.variant.content()
    print(f"{row.label}: {backbones.find(case.backbone).summary}")
    print(f"  variant: {row.variant.summary}")
    print(f"  axes: {', '.join(f'{axis}={value}' for axis, value in changes.items())}")
    print(f"  input: {'x'.join(map(str, case.input_size))}, of {case.data}")
    print(f"  recipe: {backbones.find(case.backbone).recipe}")
    for kind, figure in figures_of(row).items():
        print(f"  {kind}: {figure}; {figure.source}")


def _print_entry(kind: str, name: str, entry: Any) -> None:
    """A declaration, field by field."""
    if kind == "operator" or isinstance(entry, str):
        print(f"{name}: {entry if isinstance(entry, str) else (entry.__doc__ or '').strip().partition(chr(10))[0]}")
        return
    print(f"{name}: {_summary(entry)}")
    if kind == "axis" and name in AXES:
        field = Variant.model_fields[name]
        known = IMPLEMENTATIONS if name == "implementation" else getattr(field.annotation, "__args__", ())
        print(f"  values: {', '.join(map(str, known)) or getattr(field.annotation, '__name__', 'any')}")
        print(f"  default: {field.default}")
        if name == "implementation":
            for value, runs in IMPLEMENTATIONS.items():
                print(f"  {value}: {runs.summary}")
            print(f"  C++ on this machine: {build.told()}")
            print(f"  NATTEN on this machine: {'installed' if find_spec('natten') else 'not installed'}")
        return
    for told in fields(entry):
        value = getattr(entry, told.name)
        if told.name not in ("summary", "meaning") and value != told.default:
            print(f"  {told.name}: {_told(value)}")


def _told(value: Any) -> str:
    """A field's value on one line: names for functions and metrics."""
    if isinstance(value, partial):
        bound = ", ".join(f"{key}={bound}" for key, bound in value.keywords.items())
        return f"{_told(value.func)}({bound})"
    if callable(value):
        return f"{value.__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    if isinstance(value, tuple):
        return ", ".join(" ".join(map(str, part)) if isinstance(part, tuple) else _told(part) for part in value)
    return str(getattr(value, "key", value))
