"""Strict reading: YAML files and settings become values, or one line that says what is wrong and where."""

from __future__ import annotations

import ast
from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from acmix_bench import files
from acmix_bench.errors import UserError, unknown

Model = TypeVar("Model", bound=BaseModel)
MERGE = "tag:yaml.org,2002:merge"  # the key << of YAML
NUMBER, MOST_DIGITS = "tag:yaml.org,2002:int", 50
MOST_BYTES, MOST_NODES = 2**20, 100_000  # of a YAML file; a node that others refer to counts as often as it stands


class Value(BaseModel):
    """An immutable record that takes no unknown key, and no true or false for a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, content: Any) -> Any:
        for key, value in content.items() if isinstance(content, dict) else ():
            if isinstance(value, bool) and key in cls.model_fields and cls.model_fields[key].annotation is not bool:
                raise UserError(f"{key}={str(value).lower()}: is no value of {key}")
        return content


def text_of(path: Path, where: str) -> str:
    """The text of a file that somebody writes by hand.

    Raises:
        UserError: where it cannot be read, or is no text.
    """
    try:
        return files.content_of(path, most=MOST_BYTES).decode()
    except OSError as error:
        raise UserError(f"{where}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: is not a text file") from error


def read_yaml(path: Path, where: str) -> dict[str, Any]:
    """The keys of a YAML file.

    Raises:
        UserError: where it cannot be read, is not YAML, holds no keys, or holds one twice.
    """
    text = text_of(path, where)
    try:
        content = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        told = getattr(error, "problem", None) or (str(error).splitlines() or [""])[0]
        raise UserError(f"{where}{place}: not valid YAML ({told})") from error
    except RecursionError as error:
        raise UserError(f"{where}: is nested too deeply") from error
    except Exception as error:  # what a value that is not of its own tag leads the loader to
        raise UserError(f"{where}: not valid YAML ({(str(error).splitlines() or [''])[0]})") from error
    if not isinstance(content, dict):
        raise UserError(f"{where}: holds no keys; variants/acmix.yaml and experiments/paths.yaml are examples")
    for key in content:
        if not isinstance(key, str):
            raise UserError(f"{where}: the key {key!r} is no word")
    return content


def validated(model: type[Model], content: dict[str, Any], *, where: str) -> Model:
    """A value from its content.

    Raises:
        UserError: the first complaint in one line: where, key, nearest known name, known names.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise _explained(error.errors()[0], model, where) from error
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def shown(value: Any) -> str:
    """A value as an error shows it, cut short."""
    try:
        return f"{value!r:.60}"
    except (ValueError, RecursionError):  # of a number with too many digits
        return type(value).__name__


def _explained(error: Any, model: type[BaseModel], where: str) -> UserError:
    """Turn pydantic's first complaint into one line: file, key, nearest known name, known names."""
    *parents, key = [str(part) for part in error["loc"]] or [""]
    for parent in parents:
        inner = model.model_fields[parent].annotation if parent in model.model_fields else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    if error["type"] == "extra_forbidden":
        return unknown("key", key, model.model_fields, where=where)
    if error["type"] == "literal_error":
        values = ast.literal_eval("[" + error["ctx"]["expected"].replace(" or ", ", ") + "]")
        what = "key" if key == "[key]" else "value"  # of a mapping
        place = ".".join(parents[:-1]) if key == "[key]" else key
        return unknown(what, str(error["input"]), values, where=f"{where}: {place}")
    if error["type"] == "missing":
        return UserError(f"{where}: key '{key}' is missing")
    place, said = ".".join([*parents, key]), error["msg"].replace("valid tuple", "valid list")
    return UserError(f"{where}: {place}={shown(error['input'])}: {said[0].lower()}{said[1:]}")


class _StrictLoader(yaml.SafeLoader):
    """YAML without the silent loss of a key that stands twice; what << merges in may be overridden.

    References that make much of little, or lead back to themselves, are refused.
    """

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _size_of(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise _refusal(node, "expected a mapping")
        own = [key_node for key_node, _ in node.value if key_node.tag != MERGE]
        keys = [self.construct_object(key_node, deep=True) for key_node in own]
        seen: set[Any] = set()
        for key_node, key in zip(own, keys, strict=True):
            if isinstance(key, Hashable):  # what is not is refused below
                if key in seen:
                    raise _refusal(key_node, f"key '{key}' stands twice")
                seen.add(key)
        return super().construct_mapping(node, deep)


def _refusal(node: yaml.Node, told: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, told, node.start_mark)


def _size_of(node: yaml.Node, known: dict[int, int]) -> int:
    """How many nodes it stands for, all that it refers to among them.

    Raises:
        ConstructorError: where they are too many, or it holds itself.
    """
    if id(node) not in known:
        known[id(node)] = MOST_NODES  # as long as it is open; what leads back to it is too large
        inner = [part for value in node.value for part in (value if isinstance(value, tuple) else (value,))]
        if isinstance(node, yaml.ScalarNode):
            if node.tag == NUMBER and len(node.value) > MOST_DIGITS:
                raise _refusal(node, "a number of too many digits")
            if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in node.value):
                raise _refusal(node, "it holds what is no character")
        size = 1 + sum(_size_of(part, known) for part in inner) if isinstance(node, yaml.CollectionNode) else 1
        if size > MOST_NODES:
            raise _refusal(node, "it holds itself, or too much")
        known[id(node)] = size
    return known[id(node)]
