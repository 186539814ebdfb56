"""A small line chart as PNG, for the e-mail of an alarm (docs/decisions/0010)."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 1184, 320
"""Pixels; shown at half that size, so that it is sharp on dense screens."""
MARGIN = 12
LINE, THRESHOLD, GRID = (31, 111, 235), (180, 35, 24), (232, 235, 240)
BREACH = (253, 236, 234)

Pixels = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Chart:
    """What to draw: one value a step, oldest first; ``None``: no measurement."""

    values: Sequence[float | None]
    threshold: float
    above: bool
    """Whether values above the threshold are the bad ones."""


def draw(chart: Chart) -> bytes | None:
    """The PNG; ``None`` when there is too little to see."""
    known = [v for v in chart.values if v is not None and np.isfinite(v)]
    if len(known) < 2:
        return None
    values = np.array([np.nan if v is None else v for v in chart.values], float)
    low, high = min(*known, chart.threshold), max(*known, chart.threshold)
    spread = (high - low) or max(abs(high), 1.0)
    low, high = low - 0.08 * spread, high + 0.08 * spread
    x = np.linspace(MARGIN, WIDTH - MARGIN, len(values))
    y = MARGIN + (high - values) / (high - low) * (HEIGHT - 2 * MARGIN)
    line_y = MARGIN + (high - chart.threshold) / (high - low) * (HEIGHT - 2 * MARGIN)

    image: Pixels = np.full((HEIGHT, WIDTH, 3), 255.0)
    bad = slice(MARGIN, round(line_y)) if chart.above else slice(round(line_y), HEIGHT - MARGIN)
    image[bad, MARGIN : WIDTH - MARGIN] = BREACH
    for k in range(5):
        row = round(MARGIN + k * (HEIGHT - 2 * MARGIN - 1) / 4)
        image[row : row + 1, MARGIN : WIDTH - MARGIN] = GRID
    for left in range(MARGIN, WIDTH - MARGIN, 20):  # dashed
        image[round(line_y) - 1 : round(line_y) + 1, left : left + 12] = THRESHOLD
    _stroke(image, x, y, 2.2)
    return _png(np.rint(image).astype(np.uint8))


def _stroke(image: Pixels, x: Pixels, y: Pixels, radius: float) -> None:
    """A line through the points, smooth at its edges; a gap where a value is missing."""
    columns = np.arange(WIDTH)
    rows = np.arange(HEIGHT)[:, None]
    cover = np.zeros((HEIGHT, WIDTH))
    for i in range(len(x)):
        if np.isnan(y[i]):
            continue
        j = i + 1 if i + 1 < len(x) and not np.isnan(y[i + 1]) else i
        left = max(0, int(x[i] - radius - 1))
        right = min(WIDTH, int(x[j] + radius + 2))
        top = max(0, int(min(y[i], y[j]) - radius - 1))
        bottom = min(HEIGHT, int(max(y[i], y[j]) + radius + 2))
        px, py = columns[left:right] - x[i], rows[top:bottom] - y[i]
        dx, dy = x[j] - x[i], y[j] - y[i]
        along = np.clip((px * dx + py * dy) / ((dx * dx + dy * dy) or 1.0), 0, 1)
        distance = np.hypot(px - along * dx, py - along * dy)
        part = cover[top:bottom, left:right]
        np.maximum(part, np.clip(radius + 0.5 - distance, 0, 1), out=part)
    image += (np.array(LINE) - image) * cover[:, :, None]


def _png(pixels: NDArray[np.uint8]) -> bytes:
    height, width, _ = pixels.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
