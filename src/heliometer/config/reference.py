"""What settings there are: the source of ``docs/settings.md`` and of hints in error messages."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from msgspec import Meta

from heliometer.config.settings import Settings

SECTIONS: tuple[str, ...] = Settings.__struct_fields__

_PATTERNS = {
    "^(|inproc:|amqps?://.+)$": "empty, or a URL that starts with amqp:// or amqps://",
    "^($|sqlite|postgresql)": "empty, or a URL that starts with postgresql:// or sqlite:",
    "^($|clickhouses?://)": "empty, or a URL that starts with clickhouse:// or clickhouses://",
    "^[A-Za-z0-9_-]{0,64}$": "empty, or up to 64 of the characters a-z A-Z 0-9 - _",
    "^(smtps?://|maildir:)": "a URL that starts with smtp://, smtps:// or maildir:",
    "^(https?://|folder:)": "a URL that starts with http://, https:// or folder:",
    "^($|mailto:|https?://)": "empty, or a URL that starts with mailto:, http:// or https://",
    "^($|amqps?://)": "empty, or a URL that starts with amqp:// or amqps://",
    "^($|https?://)": "empty, or a URL that starts with http:// or https://",
    "^[^\\s@]+@[^\\s@]+$": "an e-mail address",
    "^[A-Za-z0-9._-]{1,64}$": "1 to 64 of the characters a-z A-Z 0-9 . - _",
}
"""What the patterns of settings mean, in words."""


class Entry(NamedTuple):
    """One setting; ``allowed`` says in words what its value may be."""

    section: str
    key: str
    default: Any
    allowed: str
    description: str


def entries() -> Iterator[Entry]:
    """Every setting, section by section."""
    defaults = Settings()
    kinds = get_type_hints(Settings)
    for section in SECTIONS:
        hints = get_type_hints(kinds[section], include_extras=True)
        for key in kinds[section].__struct_fields__:
            hint = hints[key]
            metas = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Meta)]
            description = next((m.description for m in metas if m.description), "")
            default = getattr(getattr(defaults, section), key)
            yield Entry(section, key, default, _allowed(hint), description)


def _allowed(hint: Any) -> str:
    base, metas = hint, []
    while get_origin(base) is Annotated:
        metas += [m for m in base.__metadata__ if isinstance(m, Meta)]
        base = get_args(base)[0]
    if get_origin(base) is Literal:
        return " or ".join(get_args(base))
    pattern = next((m.pattern for m in metas if m.pattern), None)
    if pattern:
        return _PATTERNS[pattern]
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}[base]
    least = next((m.ge for m in metas if m.ge is not None), None)
    most = next((m.le for m in metas if m.le is not None), None)
    if least is not None:
        words += f" from {least}"
    if most is not None:
        words += f" to {most}"
    return words
