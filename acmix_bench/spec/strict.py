"""Strict reading: YAML files and settings become values, or one line that says what is wrong and where."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from acmix_bench.errors import UserError, unknown

Model = TypeVar("Model", bound=BaseModel)
MERGE = "tag:yaml.org,2002:merge"  # the key << of YAML


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


def read_yaml(path: Path, where: str) -> dict[str, Any]:
    """The keys of a YAML file.

    Raises:
        UserError: where it cannot be read, is not YAML, holds no keys, or holds one twice.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except OSError as error:
        raise UserError(f"{where}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: is not a text file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{where}{place}: not valid YAML ({getattr(error, 'problem', error)})") from error
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


def _explained(error: Any, model: type[BaseModel], where: str) -> UserError:
    """Turn pydantic's first complaint into one line: file, key, nearest known name, known names."""
    *parents, key = [str(part) for part in error["loc"]]
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
    return UserError(f"{where}: {place}={error['input']!r:.60}: {said[0].lower()}{said[1:]}")


class _StrictLoader(yaml.SafeLoader):
    """YAML without the silent loss of a key that stands twice; what << merges in may be overridden."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        own = [key_node for key_node, _ in node.value if key_node.tag != MERGE]
        keys = [self.construct_object(key_node, deep=True) for key_node in own]
        for key_node, key in zip(own, keys, strict=True):
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' stands twice", key_node.start_mark)
        return super().construct_mapping(node, deep)
