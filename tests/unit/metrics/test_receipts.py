"""Receipts: what stores and messages of other versions have must stay readable."""

import pytest

from heliometer.metrics.receipts import PUSH_LIFE_MS, RECEIPT_LIFE_MS, Receipt, ReceiptKind


@pytest.mark.parametrize(
    ("kind", "encoded"),
    [
        (ReceiptKind.CLIENT, "k"),
        (ReceiptKind.PUSH, "\x01push k"),
        (ReceiptKind.HANDOVER, "\x02k"),
    ],
)
def test_the_encoded_key_stays_what_it_was(kind: ReceiptKind, encoded: str) -> None:
    receipt = Receipt("p", "k", b"f", 5, kind)
    assert receipt.encoded_key == encoded
    assert Receipt.decode("p", encoded, b"f", 5) == receipt


def test_a_key_that_looks_like_another_kind_to_people_is_the_clients() -> None:
    assert Receipt.decode("p", "push k", b"", 0).kind is ReceiptKind.CLIENT


def test_pushed_requests_are_forgotten_sooner() -> None:
    assert Receipt("p", "k", b"", 7).ends_ms == 7 + RECEIPT_LIFE_MS
    assert Receipt("p", "k", b"", 7, ReceiptKind.PUSH).ends_ms == 7 + PUSH_LIFE_MS
