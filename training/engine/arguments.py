"""Command lines and YAML recipes from dataclasses.

A recipe holds only what differs from the dataclass's defaults; `base: other.yaml` starts from another recipe.
The command line overrides the recipe: `--config recipe.yaml --optimizer.learning_rate 1e-4`.
"""

import dataclasses
import difflib
import inspect
import re
import sys
import types
import typing
from pathlib import Path
from typing import Any, TypeVar, Union

import yaml

T = TypeVar("T")
TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


class _RecipeLoader(yaml.SafeLoader):
    """YAML 1.1 reads `1e-4` as text; here it is a number."""


# It also reads `no` and `on` as truth values; here these are words, as in `mixed_precision: no`.
_RecipeLoader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def option(default: Any, help: str) -> Any:
    """A dataclass field with a default and a line for `--help`; lists and dicts are copied."""
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata={"help": help})
    return dataclasses.field(default=default, metadata={"help": help})


def group(cls: type[T], **defaults: Any) -> T:
    """A field holding another dataclass, with other `defaults` than its own where given."""
    return dataclasses.field(default_factory=lambda: cls(**defaults))


def parse_arguments(cls: type[T], argv: list[str] | None = None) -> T:
    """Build `cls` from `--config recipe.yaml` and `--field.subfield value` overrides.

    Raises `ValueError` naming the key for an unknown key, a missing value, or a value of another type.
    """
    argv = sys.argv[1:] if argv is None else argv
    if any(argument in ("-h", "--help") for argument in argv):
        print(f"usage: --config RECIPE.yaml [--field value]…\n\n{describe(cls)}")
        raise SystemExit(0)
    overrides = _read_command_line(argv)
    configs = [value for key, value in overrides if key == "config"]
    if len(configs) > 1:
        raise ValueError(f"--config was given {len(configs)} times; use `base:` inside a recipe instead")
    values = read_recipe(configs[0]) if configs else {}
    for key, value in overrides:
        if key != "config":
            _assign(values, key.split("."), yaml.load(value, _RecipeLoader) if value else value)
    return build(cls, values)


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The values of a recipe on top of those of its `base` (a path relative to the recipe)."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"recipe {str(path)!r} does not exist")
    values = yaml.load(path.read_text(encoding="utf-8"), _RecipeLoader) or {}
    if not isinstance(values, dict):
        raise ValueError(f"recipe {str(path)!r} must hold keys and values, not a {type(values).__name__}")
    base = values.pop("base", None)
    return merge(read_recipe(path.parent / base), values) if base is not None else values


def merge(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`values` with `changes` on top, dict by dict."""
    merged = dict(values)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def build(cls: type[T], values: dict[str, Any], path: str = "") -> T:
    """Build a dataclass from nested dicts, converting each value to its field's type."""
    if not isinstance(values, dict):
        raise ValueError(f"{path or cls.__name__} must hold keys and values, got {values!r}")
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    for key in values:
        if key not in names:
            close = difflib.get_close_matches(str(key), names, n=1)
            hint = (
                f"; did you mean {_join(path, close[0])!r}?" if close else f"; known here: {', '.join(names)}"
            )
            raise ValueError(f"unknown key {_join(path, key)!r}{hint}")
    return cls(**{key: _convert(value, hints[key], _join(path, key)) for key, value in values.items()})


def check_keywords(
    group_name: str, values: dict[str, Any], target: type, reserved: tuple[str, ...] = ()
) -> None:
    """Refuse keys that `target` does not take, and those that are `reserved` for the script to fill in."""
    parameters = inspect.signature(target.__init__).parameters
    known = [name for name in parameters if name != "self" and name not in reserved]
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{group_name}.{close[0]}'?" if close else f"known: {', '.join(known)}"
            raise ValueError(f"unknown key '{group_name}.{key}' for {target.__name__}; {hint}")


def describe(cls: type, path: str = "", defaults: Any = None) -> str:
    """One line per option: name, default, help."""
    lines = []
    hints = typing.get_type_hints(cls)
    defaults = cls() if defaults is None else defaults
    for field in dataclasses.fields(cls):
        name, default = _join(path, field.name), getattr(defaults, field.name)
        if dataclasses.is_dataclass(hints[field.name]):
            lines.append(describe(hints[field.name], name, default))
        else:
            lines.append(f"  --{name} [{default}]  {field.metadata.get('help', '')}")
    return "\n".join(lines)


def to_yaml(arguments: Any) -> str:
    """All resolved values, as a recipe."""
    return yaml.safe_dump(dataclasses.asdict(arguments), sort_keys=False)


def flatten(arguments: Any) -> dict[str, Any]:
    """All resolved values under dotted names, numbers and text only, for trackers."""

    def walk(value: Any, path: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return {
                name: leaf
                for key, item in value.items()
                for name, leaf in walk(item, _join(path, key)).items()
            }
        return {path: value if isinstance(value, (bool, int, float, str)) else str(value)}

    return walk(dataclasses.asdict(arguments), "")


def _read_command_line(argv: list[str]) -> list[tuple[str, str]]:
    pairs, position = [], 0
    while position < len(argv):
        argument = argv[position]
        if not argument.startswith("--"):
            raise ValueError(f"unexpected argument {argument!r}: options are written --name value")
        key, equals, value = argument[2:].partition("=")
        position += 1
        if not equals:
            following = argv[position] if position < len(argv) else "--"
            if following.startswith("--"):
                value = "true"  # a bare flag
            else:
                value, position = following, position + 1
        pairs.append((key, value))
    return pairs


def _assign(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        if not isinstance(values.get(key), dict):
            values[key] = {}
        values = values[key]
    values[keys[-1]] = value


def _convert(value: Any, kind: Any, path: str) -> Any:
    origin, parameters = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in parameters:
            return None
        return _convert(value, next(p for p in parameters if p is not type(None)), path)
    if dataclasses.is_dataclass(kind):
        return build(kind, value, path)
    if kind is Any:
        return value
    if kind is bool:
        if str(value).lower() in TRUE + FALSE:
            return str(value).lower() in TRUE
    elif kind is int and not isinstance(value, bool):
        if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
            return int(value)
    elif kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif kind is str and isinstance(value, (str, int, float)):
        return str(value)
    elif origin is dict or kind is dict:
        if value is None:
            return {}  # `key: null` drops what a base recipe put there
        if isinstance(value, dict):
            inner = parameters[1] if parameters else Any
            return {str(key): _convert(item, inner, _join(path, key)) for key, item in value.items()}
    elif origin is list or kind is list:
        items = value if isinstance(value, list) else [value]
        return [
            _convert(item, parameters[0] if parameters else Any, f"{path}[{i}]")
            for i, item in enumerate(items)
        ]
    raise ValueError(f"{path} must be {getattr(kind, '__name__', kind)}, got {value!r}")


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)
