"""The settings file that TIDEMARK_CONFIG names: YAML, one setting per line, by its name in lower case."""

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from models.errors import UnusableInput

#: How much alike a variable and a setting must be for the variable to count as misspelt (difflib's ratio).
_ALIKE = 0.8


class SettingsError(UnusableInput):
    """Some settings cannot be used. The message gives each variable, what was found and what is allowed."""


def read_file(path: Path) -> dict[str, Any]:
    """Return the values in a settings file by their names. Raises SettingsError."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"TIDEMARK_CONFIG: {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"TIDEMARK_CONFIG: {path} is not YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(
            f"TIDEMARK_CONFIG: {path}: found a {type(values).__name__}, allowed is name: value, one per line"
        )
    return {str(name): value for name, value in values.items()}


def unknown_names(path: Path, known: set[str]) -> list[str]:
    """Return a line for each unknown name in a settings file, with the most similar setting."""
    lines = []
    for name in read_file(path):
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            lines.append(f"{path}: {name}: no such setting{hint}")
    return lines


def unknown_variables(prefix: str, known: set[str]) -> tuple[list[str], list[str]]:
    """Return a line for each variable that looks like a misspelt setting, and the names of the other unknown ones.

    `prefix` begins the names of variables that are settings. The others may be meant for someone else: Kubernetes sets
    TIDEMARK_SERVICE_HOST for a service named `tidemark`.
    """
    misspelt, others = [], []
    for variable in sorted(os.environ):
        name = variable.removeprefix(prefix).lower()
        if variable.startswith(prefix) and name not in known:
            near = get_close_matches(name, known, 1, _ALIKE)
            if near:
                misspelt.append(f"{variable}: no such setting; did you mean {prefix}{near[0].upper()}?")
            else:
                others.append(variable)
    return misspelt, others


class FileSource(PydanticBaseSettingsSource):
    """The values of the settings file, whose path comes from the sources before it."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002  # upstream's
        """Return nothing: the file is read as a whole, not field by field."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the values in the file; an empty value is not set."""
        path = self.current_state.get("config")
        if not path:
            return {}
        known = self.settings_cls.model_fields.keys() - {"config"}
        return {name: value for name, value in read_file(Path(path)).items() if name in known and value is not None}
