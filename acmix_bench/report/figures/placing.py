"""Labels of points that lie on nothing: each goes to the nearest place round its point that is free."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text

from acmix_bench.report.figures.style import QUIET

RADII = (2.5, 5, 8, 12, 17, 23, 30, 38, 47, 57)  # points between a label and the one that it names
DIRECTIONS = np.linspace(0, 2 * math.pi, 24, endpoint=False)
FAR = 8  # points from which on a thin line leads to the label
MARKER = 3.0  # half of a marker's edge, in points
CROSSED = 1.5  # points of distance that a label rather goes than lie on a stretch of a line


def place(axis: Axes, points: Sequence[tuple[float, float, str, Any]], lines: Iterable[np.ndarray] = ()) -> list[Text]:
    """Name points, each of x, y, text and colour, beside markers and other names, and where there is room beside lines.

    To be called when all else is drawn and the size of the sheet is set: places are found on what is then laid out.
    Boxes are left, bottom, right and top, in pixels.
    """
    figure: Any = axis.figure
    figure.draw_without_rendering()
    unit = figure.dpi / 72  # pixels a point
    pixels = axis.transData.transform([(x, y) for x, y, *_ in points])
    taken = np.concatenate([pixels - MARKER * unit, pixels + MARKER * unit], axis=1)
    drawn = np.concatenate([np.empty((0, 2)), *(_along(axis.transData.transform(line)) for line in lines)])
    panel = np.array(axis.bbox.extents)
    texts: list[Text] = []
    # The most crowded first: they have the fewest places.
    for one in np.argsort([np.hypot(*(pixels - pixel).T).sum() for pixel in pixels], kind="stable"):
        x, y, text, colour = points[one]
        shown = axis.annotate(text, (x, y), xytext=(0, 0), textcoords="offset points", fontsize=6.5, color=colour)
        shown.set(ha="center", va="center", linespacing=1.05)
        shown.set_in_layout(False)
        extent = shown.get_window_extent()
        boxes, radii = _places(pixels[one], np.array([extent.width + unit, extent.height + 0.5 * unit]), unit)
        within = np.all(boxes[:, :2] >= panel[:2], axis=1) & np.all(boxes[:, 2:] <= panel[2:], axis=1)
        price = radii + CROSSED * _held(boxes, drawn) + 1000.0 * (_overlaps(boxes, taken) | ~within)
        best = int(np.argmin(price))
        box = boxes[best]
        shown.set_position(tuple(((box[:2] + box[2:]) / 2 - pixels[one]) / unit))
        if radii[best] >= FAR:
            nearest = np.clip(pixels[one], box[:2], box[2:])
            axis.annotate(
                "",
                (x, y),
                xytext=tuple((nearest - pixels[one]) / unit),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": QUIET, "linewidth": 0.4, "shrinkA": 0, "shrinkB": MARKER},
            ).set_in_layout(False)
        taken = np.concatenate([taken, box[None]])
        texts.append(shown)
    return texts


def _places(point: np.ndarray, size: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Where a label of a width and height may stand round a point, the nearest first, and how far from it each is."""
    radii = np.repeat(RADII, len(DIRECTIONS))
    towards = np.tile(np.stack([np.cos(DIRECTIONS), np.sin(DIRECTIONS)], axis=1), (len(RADII), 1))
    middles = point + towards * (radii[:, None] + MARKER) * unit + np.clip(2 * towards, -1, 1) * size / 2
    return np.concatenate([middles - size / 2, middles + size / 2], axis=1), radii


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which boxes lie on any of the others."""
    apart = (boxes[:, None, :2] >= others[None, :, 2:]) | (boxes[:, None, 2:] <= others[None, :, :2])
    return np.asarray(~np.all(np.any(apart, axis=2), axis=1))


def _held(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How many of the points each box holds."""
    held = (points >= boxes[:, None, :2]) & (points <= boxes[:, None, 2:])
    return np.sum(np.all(held, axis=2), axis=1)


def _along(corners: np.ndarray) -> np.ndarray:
    """Points on a line, so close that no label lies between two of them."""
    parts = [np.linspace(start, end, 2 + int(math.dist(start, end) / 3)) for start, end in pairwise(corners)]
    return np.concatenate(parts) if parts else corners
