"""Settings from their sources: a TOML file, then the environment, then flags."""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from heliometer.config.checks import check_together
from heliometer.config.errors import WrongSetting
from heliometer.config.redaction import redacted, redacted_value
from heliometer.config.reference import SECTIONS, entries
from heliometer.config.settings import Settings

PREFIX = "HELIOMETER_"
OF_FILE = "_FILE"
LARGEST_FILE = 65_536
BOOTSTRAP_PASSWORD = "HELIOMETER_BOOTSTRAP_PASSWORD"
"""An environment variable that is not a setting: the first password of the first user."""


def load(
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
) -> Settings:
    """Build the settings; later sources win over earlier ones.

    ``flags`` maps ``section.key`` to text as given on the command line. Raises WrongSetting.
    """
    layers = _Layers()
    if config is not None:
        for name, value in _from_file(config):
            layers.put(name, value, f"in {config}")
    for name, variable, value in _from_environment(
        os.environ if environment is None else environment
    ):
        layers.put(name, value, f"from {variable}")
    for name, value in (flags or {}).items():
        layers.put(name, value, "from the command line")
    settings = layers.convert()
    check_together(settings, layers.origin)
    return settings


class _Layers:
    """The values of all sources on top of each other, and which source each came from."""

    def __init__(self) -> None:
        self.origin: dict[str, str] = {}
        self._values: dict[str, dict[str, Any]] = {}
        self._known = [f"{entry.section}.{entry.key}" for entry in entries()]

    def put(self, name: str, value: Any, where: str) -> None:
        if name not in self._known:
            close = difflib.get_close_matches(name, self._known, 1, 0.6)
            hint = f"did you mean {close[0]}?" if close else f"sections are {', '.join(SECTIONS)}"
            raise WrongSetting(f"{name} ({where}) is not a setting; {hint}")
        section, _, key = name.partition(".")
        self._values.setdefault(section, {})[key] = value
        self.origin[name] = where

    def convert(self) -> Settings:
        # The environment and the command line give text; strict=False reads numbers out of it.
        try:
            return msgspec.convert(self._values, Settings, strict=False)
        except msgspec.ValidationError as error:
            reason, _, path = str(error).partition(" - at `$.")
            name = path.rstrip("`")
            section, _, key = name.partition(".")
            value = self._values.get(section, {}).get(key)
            allowed = next((e.allowed for e in entries() if f"{e.section}.{e.key}" == name), "")
            raise WrongSetting(
                f"{name} ({self.origin.get(name, '')}): {redacted_value(name, value)} is not "
                f"allowed: {redacted(reason[:1].lower() + reason[1:].replace('`', ''))}; "
                f"allowed: {allowed}"
            ) from error


def _from_file(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WrongSetting(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongSetting(f"{path} is not valid TOML: {error}") from error
    for section, table in document.items():
        if not isinstance(table, dict):
            raise WrongSetting(
                f"{section} (in {path}) stands outside a section; "
                f"sections are {', '.join(SECTIONS)}"
            )
        for key, value in table.items():
            yield f"{section}.{key}", value


def _from_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    known = {f"{entry.section}.{entry.key}" for entry in entries()}
    for variable in sorted(environment):
        match = re.fullmatch(rf"{PREFIX}({'|'.join(SECTIONS).upper()})_(\w+)", variable)
        if match:
            name = f"{match[1].lower()}.{match[2].lower()}"
            base = name.removesuffix(OF_FILE.lower())
            if name not in known and base in known:
                value = from_variable(environment, variable.removesuffix(OF_FILE))
                yield base, variable, value or ""
            else:
                yield name, variable, environment[variable]


def from_variable(environment: Mapping[str, str], variable: str) -> str | None:
    """The value of an environment variable, or the content of the file that the variable with
    ``_FILE`` after its name names, so that secrets need not stand in the environment. ``None``:
    neither is set. Raises WrongSetting."""
    by_file = f"{variable}{OF_FILE}"
    path = environment.get(by_file)
    if path is None:
        return environment.get(variable)
    if variable in environment:
        raise WrongSetting(f"{variable} and {by_file} are both set; unset one of them")
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise WrongSetting(f"{by_file}: {path} is larger than {LARGEST_FILE} bytes")
        # Editors and echo end the line.
        return content.decode("utf-8").rstrip("\r\n")
    except OSError as error:
        raise WrongSetting(f"{by_file}: cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise WrongSetting(f"{by_file}: {path} is not UTF-8 text") from error
