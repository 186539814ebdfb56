"""Column types that tables and migrations share."""

from sqlalchemy import BigInteger, Integer, String
from sqlalchemy.types import TypeEngine

Serial = BigInteger().with_variant(Integer, "sqlite")
"""SQLite autoincrements only columns whose type is exactly INTEGER."""


def sealed(length: int) -> TypeEngine[str]:
    """Text of up to so many characters, stored encrypted, which is longer. SQLite cannot change a
    column's type, and does not look at its length."""
    encrypted = 128 + length * 4 // 3
    return String(length).with_variant(String(encrypted, "C"), "postgresql")


def string(length: int) -> TypeEngine[str]:
    """Text of up to so many characters, ordered by its code points on every database. PostgreSQL
    would order it by the locale of the database instead: pages would differ in order from SQLite's,
    and a new version of the C library could corrupt its indexes."""
    return String(length).with_variant(String(length, "C"), "postgresql")
