"""Aligned columns, and dimensions as people read them."""

from collections.abc import Mapping, Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """Columns two spaces apart; ``align`` has ``<`` or ``>`` for each."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(line, align, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def label(dimensions: Mapping[str, str]) -> str:
    """``key=value`` pairs by key; a value with a space or quote is quoted."""
    return " ".join(f"{key}={_quoted(value)}" for key, value in sorted(dimensions.items()))


def common_dimensions(all_dimensions: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The pairs that all have."""
    first, *others = all_dimensions
    return {
        key: value for key, value in first.items() if all(each.get(key) == value for each in others)
    }


def _quoted(value: str) -> str:
    return f'"{value}"' if any(c in value for c in " \"'") else value
