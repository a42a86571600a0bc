"""What has a name: variants and experiments as YAML files, and the texts that stand for them on a command line.

A name is looked up in `variants/` and `experiments/` of the working folder first, then in what comes with the package.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acmix_bench import meters, ops
from acmix_bench.errors import UserError, unknown
from acmix_bench.spec import plugins, strict
from acmix_bench.spec.axis import Axis
from acmix_bench.spec.cell import Row
from acmix_bench.spec.experiment import Case, Experiment, Protocol
from acmix_bench.spec.recipe import DenseRecipe, NamedRecipe
from acmix_bench.spec.variant import AXES, Variant, plain

PACKAGE = Path(__file__).resolve().parent.parent
# Where variants/, experiments/, recipes/ and results/published/ are: in a checkout beside the package, so that an edit
# counts at once; in a wheel within it. (An editable install holds copies too, which nobody reads.)
SHIPPED = PACKAGE.parent if (PACKAGE.parent / "variants" / "acmix.yaml").exists() else PACKAGE / "shipped"
FOLDERS = {
    "variant": ("variants", ".yaml"),
    "experiment": ("experiments", ".yaml"),
    "recipe": ("recipes", ".yaml"),
    "published": ("results/published", ".csv"),
}
CLAIMS = Path("experiments/claims.yaml")  # of the experiments, and none itself


@dataclass(frozen=True, kw_only=True)
class Named:
    """A file with a name, and whether it is the user's own."""

    path: Path
    place: str
    is_own: bool


def known(kind: str) -> dict[str, Named]:
    """The `variant`s, `experiment`s, `recipe`s or `published` figures that have a name, in the order of their names."""
    folder, suffix = FOLDERS[kind]
    found: dict[str, Named] = {}
    own = Path(folder)
    places = [SHIPPED / folder]
    if kind != "published" and own.is_dir() and own.resolve() != places[0]:
        places.append(own)
    for place in places:
        for path in filter(Path.is_file, place.glob(f"*{suffix}")):
            name = path.name.removesuffix(suffix)
            if f"{folder}/{path.name}" == str(CLAIMS):
                continue
            found[name] = Named(path=path, place=f"{folder}/{path.name}", is_own=place is own)
    return dict(sorted(found.items()))


def claims_file() -> Named:
    """The file of claims: the user's own, where the working folder has one, or what comes with the package."""
    is_own = CLAIMS.is_file() and CLAIMS.resolve() != SHIPPED / CLAIMS
    return Named(path=CLAIMS if is_own else SHIPPED / CLAIMS, place=str(CLAIMS), is_own=is_own)


def load_variant(name: str) -> Variant:
    """A variant by name, or from a YAML file of yours.

    Raises:
        UserError: for an unknown name, or what a file says wrong, with file and key.
    """
    where, _, content = _read("variant", name)
    variant = _variant(content, where)
    _refuse_without_effect([axis for axis in AXES if axis in content], [variant], where=where)
    return variant


def load_experiment(name: str) -> Experiment:
    """An experiment by name, or from a YAML file of yours; the file's stem is its name.

    Raises:
        UserError: for an unknown name, or what a file says wrong, with file and key.
    """
    where, path, content = _read("experiment", name)
    if "name" in content:
        raise UserError(f"{where}: name: the file's own name is the experiment's")
    if "recipe" in content and isinstance(content.get("protocol", {}), dict):
        content["protocol"] = _recipe_fields(str(content["recipe"])) | content.get("protocol", {})
    return _experiment(content | {"name": path.stem}, where)


def load_recipe(name: str) -> NamedRecipe:
    """A recipe by name, or from a YAML file of yours.

    Raises:
        UserError: for an unknown name, or what a file says wrong, with file and key.
    """
    where, _, content = _read("recipe", name)
    return strict.validated(NamedRecipe, content, where=where)


def _recipe_fields(name: str) -> dict[str, Any]:
    return load_recipe(name).model_dump(include=set(DenseRecipe.model_fields))


def own_file(kind: str, name: str) -> Path | None:
    """The file behind a name or a path, where it is the user's own; None where it comes with the package."""
    named = known(kind).get(name)
    return None if named and not named.is_own else _place(kind, name)[1]


def with_settings(experiment: Experiment, settings: Sequence[str]) -> Experiment:
    """Apply `--set key=value`, over the protocol, the recipe, the backbone and the image size.

    A recipe comes first: what else is set changes it.
    """
    case_keys, protocol_keys = [*Case.model_fields, "implementation"], list(Protocol.model_fields)
    content = experiment.model_dump()
    for setting in sorted(settings, key=lambda setting: not setting.startswith("recipe=")):
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting}: write key=value")
        if key == "recipe":
            content["recipe"] = value
            content["protocol"] |= _recipe_fields(value)
        elif key in case_keys:
            content[key] = value
        elif key == "meters":
            content[key] = value.split(",")
        elif key in protocol_keys:
            content["protocol"][key] = value
        else:
            raise unknown("key", key, [*case_keys, "meters", "recipe", *protocol_keys], where=f"--set {setting}")
    return _experiment(content, "--set " + " ".join(settings))


def settings() -> dict[str, str]:
    """What `--set` takes, each with its meaning and default."""
    more = {key: Experiment.model_fields[key] for key in ("implementation", "recipe")}
    fields = Case.model_fields | more | Protocol.model_fields
    optional = {key for key, field in fields.items() if not field.is_required() and field.default is not None}
    return {"meters": "what is measured, as names joined by commas"} | {
        key: f"{field.description} (default {field.default})" if key in optional else str(field.description)
        for key, field in fields.items()
    }


def variant_rows(experiment: Experiment, case: Case, extra: Sequence[str] = ()) -> list[Row]:
    """The baseline, then every variant of the experiment and every extra one that differs from it, each once."""
    baseline = load_variant(experiment.baseline)
    unique: dict[str, Row] = {}
    for text in ("", *experiment.variants, *extra):
        for variant in expand(text, baseline) if text else [baseline]:
            row = Row(label=variant.label(baseline), variant=variant, case=case)
            if any(other.label == row.label and other.content != row.content for other in unique.values()):
                row = row.model_copy(update={"label": text})
            unique.setdefault(row.content, row)
    return list(unique.values())


def expand(text: str, baseline: Variant) -> list[Variant]:
    """Read one `--variant`: a name, a YAML file, or a grid as `axis=value[,value][,axis=value...]`.

    Values after a comma belong to the axis before it; a second axis makes every combination. Beside an operator of your
    own, its keyword arguments are axes.
    """
    if "=" not in text:
        return [load_variant(text)]
    where, grid = f"--variant {text}", _grid(text)
    variants = []
    for values in itertools.product(*grid.values()):
        chosen: dict[str, Any] = dict(zip(grid, values, strict=True))
        content = baseline.model_dump() | {axis: chosen[axis] for axis in chosen if axis == "operator"}
        if content["operator"] not in ops.OPERATORS:
            fits = {axis: value for axis, value in chosen.items() if axis == "operator" or _own_axis(axis)}
            options = {axis: _literal(value) for axis, value in chosen.items() if axis not in fits}
            kept = baseline.options if content["operator"] == baseline.operator else {}
            chosen = fits | {"options": kept | options}
        variants.append(_variant(content | chosen, where))
    _refuse_without_effect([axis for axis in grid if axis in AXES], variants, where=where)
    return variants


def _grid(text: str) -> dict[str, list[str]]:
    grid: dict[str, list[str]] = {}
    for part in text.split(","):
        axis, equals, value = part.rpartition("=")
        if equals:
            grid.setdefault(axis.strip(), [])
        if not grid or not value.strip():
            raise UserError(f"--variant {text}: '{part}' is not axis=value")
        grid[list(grid)[-1]].append(value.strip())
    return grid


def _variant(content: Mapping[str, Any], where: str) -> Variant:
    """A variant from its content, its operator and its axes known."""
    told = dict(content)
    for key in [key for key in told if key not in Variant.model_fields]:
        axis = _own_axis(key)
        if axis is None:
            what = "axis" if where.startswith("--variant") else "key"
            settable = [name for name in (AXES if what == "axis" else Variant.model_fields) if name != "options"]
            raise unknown(what, key, [*settable, *plugins.installed("axis")], where=where)
        values = {plain(value): value for value in axis.values}
        if plain(told[key]) not in values:
            raise unknown("value", plain(told[key]), values, where=f"{where}: {key}")
        told[key] = values[plain(told[key])]
        if told[key] == axis.values[0]:
            del told[key]  # the default is no difference, whether it is written or not
    variant = strict.validated(Variant, told, where=where)
    for key, option in variant.options.items():
        try:
            plain(option)
        except (TypeError, ValueError, RecursionError) as error:
            odd = strict.shown(option)
            raise UserError(f"{where}: options: {key}={odd} is no number, text, list or mapping") from error
    try:
        ops.check_name(variant.operator)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return variant


def _own_axis(name: str) -> Axis | None:
    """An axis that a user brings, by its name or its reference; None for any other word."""
    return None if name in AXES or plugins.reference_of("axis", name) is None else own_axis(name)


def own_axis(name: str) -> Axis:
    """An axis that a user brings.

    Raises:
        UserError: where it is none, or lacks what one needs.
    """
    axis = plugins.find("axis", name, {}, Axis)
    if not axis.values or axis.apply is None:
        raise UserError(f"axis '{name}': an axis of your own needs values, the default first, and apply(model, value)")
    return axis


def _experiment(content: dict[str, Any], where: str) -> Experiment:
    """An experiment from its content, its meters known."""
    experiment = strict.validated(Experiment, content, where=where)
    for name in experiment.meters:
        try:
            meters.find(name)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
    return experiment


def _refuse_without_effect(axes: Iterable[str], variants: Sequence[Variant], *, where: str) -> None:
    """An axis that changes none of the variants it was given for is a mistake, not a wish."""
    for axis in axes:
        if not any(axis in variant.content() or (variant.is_own and axis in variant.options) for variant in variants):
            content = variants[0].content()
            others = ", ".join(f"{key}={content[key]}" for key in content if key in AXES and AXES[key].decides)
            raise UserError(f"{where}: {axis} has no effect with {others}")


def _place(kind: str, name: str) -> tuple[str, Path]:
    """What a named YAML file, or one that is given by its path, is called in an error, and where it is."""
    if name.endswith((".yaml", ".yml")):
        return name, Path(name).expanduser()
    names = known(kind)
    if name not in names:
        raise unknown(kind, name, names)
    return names[name].place, names[name].path


def _read(kind: str, name: str) -> tuple[str, Path, dict[str, Any]]:
    """The same, and its content."""
    where, path = _place(kind, name)
    return where, path, strict.read_yaml(path, where)


def _literal(text: str) -> Any:
    """A keyword argument as it was typed: a number, True, a list; else the word."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
