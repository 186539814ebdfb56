"""Which project a domain belongs to."""

import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from heliometer.collectors.libvirt.definition import Definition


class WrongOwners(Exception):
    """The mapping is invalid. The message is one line: what is wrong, and where."""


class Owners:
    """Finds a domain's project in the operator's mapping or in Nova's metadata.

    The mapping is a TOML file with one table ``[projects]``: a pattern (``*`` and ``?`` as in a
    shell) for the domain's UUID, its name or its project in Nova, and the project here. The first
    match counts. The domain's name in Nova is ignored, since its tenant chooses it.
    """

    def __init__(self, mapping: Mapping[str, str] | None = None) -> None:
        self._mapping = dict(mapping or {})

    @classmethod
    def load(cls, path: Path | None) -> "Owners":
        """Read the mapping. Raises WrongOwners."""
        if path is None:
            return cls()
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise WrongOwners(f"cannot read {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise WrongOwners(f"{path} is not valid TOML: {error}") from error
        projects = document.pop("projects", None)
        if document or not isinstance(projects, dict):
            raise WrongOwners(f"{path} must have one table, [projects]")
        for pattern, project in projects.items():
            if not isinstance(project, str) or not project:
                raise WrongOwners(f"{path}: projects.{pattern!r} must be a project's name or id")
        return cls(projects)

    def owner(self, uuid: str, definition: Definition) -> str:
        """The project, by id or name; empty if it is unknown."""
        names = [uuid, definition.name, definition.project]
        for pattern, project in self._mapping.items():
            if any(name and fnmatchcase(name, pattern) for name in names):
                return project
        return definition.project
