"""From YAML and `key=value` overrides to a checked config, and back to YAML.

The config models live beside the code that reads them (aqqua.train.settings.PretrainConfig is the
one of a run); here is only how a file becomes one. An unknown key fails and names the nearest.
"""

import difflib
import re
import types
from collections.abc import Iterator, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


class ConfigError(ValueError):
    """A config that cannot be used; the message says which key and what to write instead."""


def load_config(kind: type[Model], path: Path | None, overrides: Sequence[str] = ()) -> Model:
    """Read a YAML file, apply overrides such as `optim.lr=1e-3`, check everything.

    Raises:
        ConfigError: unreadable file, unknown key, or a value out of range.
    """
    values = {} if path is None else _read(path)
    for override in overrides:
        _apply(values, override)
    for key in _unknown(kind, values, ""):
        raise ConfigError(_unknown_message(kind, key))
    try:
        return kind.model_validate(_with_sections(kind, values))
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(e) for e in error.errors())) from error


class FirstError(NamedTuple):
    """The first thing that is wrong with a file, for a sentence about it."""

    place: str  # key by key, joined by dots; "" is the whole
    says: str  # pydantic's words
    got: str  # the value, cut short; "nothing" where it is missing


def first_error(error: ValidationError) -> FirstError:
    """What a reader should correct first."""
    first = error.errors()[0]
    got = "nothing" if first["type"] == "missing" else repr(first["input"])[:80]
    return FirstError(".".join(str(part) for part in first["loc"]), first["msg"], got)


def yaml_names(folder: Traversable) -> list[str]:
    """Names of the YAML files that come with aqqua in a folder of a package."""
    return sorted(one.name.removesuffix(".yaml") for one in folder.iterdir() if one.name.endswith(".yaml"))


def named_yaml(what: str, source: Path | str, folder: Traversable) -> Path:
    """The file that somebody means by its path, or by the name of one that came with aqqua.

    Args:
        what: it is, for the message: "suite".
        folder: of those that came with aqqua.

    Raises:
        ValueError: no such name, and no path of a YAML file.
    """
    known = yaml_names(folder)
    if str(source) in known:
        return Path(str(folder / f"{source}.yaml"))
    if Path(source).suffix in (".yaml", ".yml"):
        return Path(source)
    hint = did_you_mean(str(source), known) or "give the path of a YAML file"
    raise ValueError(f"{what}: must be a YAML file or one of {', '.join(known)}, got {source}; {hint}")


def did_you_mean(got: str, known: Sequence[str]) -> str:
    """`did you mean x?` of the nearest name; "" where none is near."""
    near = difflib.get_close_matches(got, known, 1)
    return f"did you mean {near[0]}?" if near else ""


def to_yaml(config: BaseModel) -> str:
    """The whole resolved config; reading it back gives the same config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        what = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"config: {path} must be a readable YAML file, got {what}; check the path"
        ) from error
    if values is None:
        return {}
    values = _numbers(values)
    if not isinstance(values, dict):
        raise ConfigError(
            f"config: {path} must hold keys and values, got a {type(values).__name__}; see configs/"
        )
    return values


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(
            f"config: an override must look like key.key=value, got {override!r}; see --print-config"
        )
    *path, last = key.split(".")
    for part in path:
        if not isinstance(values.get(part), dict):
            values[part] = {}
        values = values[part]
    try:
        values[last] = _numbers(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ConfigError(f"config: the value of {key} must be YAML, got {text!r}; quote it") from error


def _numbers(value: Any) -> Any:
    """YAML 1.1 reads 1e-3 as a string; people mean a number."""
    if isinstance(value, dict):
        return {key: _numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_numbers(inner) for inner in value]
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


def _with_sections(kind: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """Sections that must be given, empty where they are not: so that the missing keys in them are named."""
    needed = [
        n for n, field in kind.model_fields.items() if field.is_required() and _model_of(field.annotation)
    ]
    return {**{name: {} for name in needed}, **values}


def _unknown(kind: type[BaseModel], values: dict[str, Any], prefix: str) -> Iterator[str]:
    for key, value in values.items():
        if key not in kind.model_fields:
            while isinstance(value, dict) and len(value) == 1:
                ((below, value),) = value.items()
                key = f"{key}.{below}"
            yield f"{prefix}{key}"
            continue
        inner = _model_of(kind.model_fields[key].annotation)
        if inner is not None and isinstance(value, dict):
            yield from _unknown(inner, value, f"{prefix}{key}.")


def _model_of(annotation: Any) -> type[BaseModel] | None:
    options = get_args(annotation) if get_origin(annotation) in (types.UnionType,) else (annotation,)
    return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)


def keys(kind: type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted key of a config model."""
    found = []
    for name, field in kind.model_fields.items():
        inner = _model_of(field.annotation)
        found += [prefix + name] if inner is None else keys(inner, f"{prefix}{name}.")
    return found


def _unknown_message(kind: type[BaseModel], key: str) -> str:
    known = keys(kind)
    sections = {k[:i] for k in known for i, letter in enumerate(k) if letter == "."}
    near = difflib.get_close_matches(key, [*known, *sorted(sections)], n=1, cutoff=0.0)
    same_name = [k for k in known if k.rpartition(".")[2] == key.rpartition(".")[2]]
    return f"config: every key must be known, got {key}; did you mean {(same_name or near)[0]}?"


def _sentence(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "the config"
    if error["type"] == "missing":
        return f"config: {key} must be given; add {key}=... to the command or the file"
    message = error["msg"].removeprefix("Value error, ")
    if isinstance(error["input"], dict):  # said of several keys together: the message itself names them
        return f"config: {key}: {message}"
    return f"config: {key}: {message[0].lower()}{message[1:]}, got {str(error['input'])[:80]}; change {key}"
