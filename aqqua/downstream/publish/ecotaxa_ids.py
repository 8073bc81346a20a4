"""Which category of EcoTaxa each class is: a YAML file of `class name: category id`."""

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, StrictInt, TypeAdapter, ValidationError

from aqqua.config import first_error

_IDS = TypeAdapter(dict[str, Annotated[StrictInt, Field(ge=1)]])


def load_ecotaxa_ids(path: Path) -> dict[str, int]:
    """
    Raises:
        ValueError: the file is not such a table; the message names the entry.
    """
    try:
        found = _IDS.validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = first_error(error)
        raise ValueError(
            f"ecotaxa: {path} must be lines of 'class name: category id', got {first.got} at "
            f"{first.place or 'the file'}; take the ids from the taxonomy of EcoTaxa"
        ) from error
    except (yaml.YAMLError, UnicodeError, OSError) as error:
        raise ValueError(f"ecotaxa: {path} must be a readable YAML file, got: {error}; correct it") from error
    return found
