"""The messages between processes: measurements as columns, in units with receipts."""

import secrets
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from heliometer.metrics.model import Batch, Series
from heliometer.metrics.receipts import Receipt, ReceiptKind

VERSION = 1
TICK = "tick"
"""Type of the messages that only carry the sender's time."""


class Unit(NamedTuple):
    """Rows of a message that are stored together or not at all, and only once."""

    rows: int
    receipt: Receipt


class Handover(NamedTuple):
    """One message. Series have their shared ids."""

    token: str
    """Identifies the message among all others."""
    series: list[Series]
    """Series that may not be stored yet, as far as the sender knows."""
    units: list[Unit]
    """Units in the order of their rows in the batch."""
    batch: Batch

    @property
    def receipts(self) -> list[Receipt]:
        """The receipts of all units, in the order of their rows."""
        return [unit.receipt for unit in self.units]


class _Wire(msgspec.Struct, array_like=True):
    version: int
    token: str
    series: list[tuple[int, str, str, tuple[tuple[str, str], ...]]]
    units: list[tuple[int, str, str, bytes, int]]
    ids: bytes
    timestamps: bytes
    values: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Wire)


def new_token() -> str:
    """A token that identifies one message among all others."""
    return secrets.token_hex(12)


def own_receipt(token: str, at_ms: int) -> Receipt:
    """A receipt for rows that came without one."""
    return Receipt("", token, b"", at_ms, ReceiptKind.HANDOVER)


def is_own(receipt: Receipt) -> bool:
    """Whether the receipt was made by ``own_receipt``, not by a client."""
    return receipt.kind is ReceiptKind.HANDOVER


def key_in(key: str, shard: int) -> str:
    """The key under which a shard remembers the request of a project of another shard."""
    return f"{key} {shard}"


def encode(handover: Handover) -> bytes:
    """The body of a message."""
    batch = handover.batch
    return _encoder.encode(
        _Wire(
            VERSION,
            handover.token,
            [(s.id, s.project_id, s.namespace, s.dimensions) for s in handover.series],
            [
                (rows, r.project_id, r.encoded_key, r.fingerprint, r.at_ms)
                for rows, r in handover.units
            ],
            np.ascontiguousarray(batch.series, "<i8").tobytes(),
            np.ascontiguousarray(batch.timestamp, "<i8").tobytes(),
            np.ascontiguousarray(batch.value, "<f8").tobytes(),
        )
    )  # fmt: skip


def decode(body: bytes) -> Handover:
    """Decode a message. Raises ValueError for anything else, and for another version's messages."""
    try:
        wire = _decoder.decode(body)
        batch = Batch(
            np.frombuffer(wire.ids, "<i8"),
            np.frombuffer(wire.timestamps, "<i8"),
            np.frombuffer(wire.values, "<f8"),
        )
    except (msgspec.MsgspecError, ValueError) as error:
        raise ValueError(f"not a batch of measurements: {error}") from error
    if wire.version != VERSION:
        raise ValueError(f"a batch of version {wire.version}; this process knows {VERSION}")
    units = [Unit(u[0], Receipt.decode(*u[1:])) for u in wire.units]
    rows = {len(batch.series), len(batch.timestamp), len(batch.value), sum(u.rows for u in units)}
    if len(rows) != 1 or any(unit.rows < 0 for unit in units):
        raise ValueError("a batch whose columns differ in length")
    return Handover(wire.token, [Series(*s) for s in wire.series], units, batch)


def split_units(handover: Handover) -> Sequence[Handover]:
    """Split a message into one for each of its units."""
    if len(handover.units) == 1:
        return [handover]
    found, start = [], 0
    for unit in handover.units:
        rows = slice(start, start + unit.rows)
        start += unit.rows
        batch = handover.batch
        its = Batch(batch.series[rows], batch.timestamp[rows], batch.value[rows])
        found.append(Handover(handover.token, handover.series, [unit], its))
    return found
