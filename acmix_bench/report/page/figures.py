"""Figures of a run as parts of a page: what `plot` draws, as SVG, and pictures that lie in the run's folder."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from acmix_bench import files
from acmix_bench.analysis.compare import Comparison
from acmix_bench.errors import printable
from acmix_bench.report.figures import KINDS, as_file, figure, kinds_of

MOST_DRAWN = 60  # rows of a run that is drawn
MOST_PICTURES, MOST_BYTES = 4, 512 * 2**10  # that lie in a run's folder, and of each


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A figure of a kind that `plot` knows, in words, and as SVG."""

    kind: str
    words: str
    svg: Markup


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A PNG picture, its bytes in base64."""

    name: str
    content: str


def drawn(comparison: Comparison, prefix: str) -> list[Drawn]:
    """Every figure that the run fills; none of a run with more rows than a figure can show.

    Args:
        prefix: what the ids in them begin with, of which a page has each once.
    """
    kinds = kinds_of(comparison) if len(comparison.lines) <= MOST_DRAWN else ()
    return [_draw(comparison, kind, f"{prefix}-{kind}") for kind in kinds]


def _draw(comparison: Comparison, kind: str, name: str) -> Drawn:
    svg = as_file(figure(comparison, kind, "page"), "svg").decode()
    rows = ", ".join(line.row.label for line in comparison.lines)
    described = f"Rows: {rows}. The tables of this page hold the same numbers."
    return Drawn(kind=kind, words=KINDS[kind], svg=Markup(_inline(svg, name, f"{kind}: {KINDS[kind]}", described)))


def _inline(svg: str, name: str, title: str, described: str) -> str:
    """matplotlib's SVG as a part of a page: named, as wide as there is room, its ids and its style no one else's."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    svg = re.sub(r'(?<= d=")[^"]*', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg)
    svg = re.sub(r">\s+<", "><", svg)
    head, _, rest = svg.partition(">")
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head)[0]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} {height}" role="img" aria-labelledby="{name}-title {name}-desc" '
        f'style="max-width:{width}pt;stroke-linejoin:round;stroke-linecap:butt"><title id="{name}-title">'
        f'{escape(printable(title))}</title><desc id="{name}-desc">{escape(printable(described))}</desc>{rest}'
    )


def pictures(folder: Path) -> list[Picture]:
    """PNG pictures that somebody laid into a run's folder, but for those that `plot` draws."""
    found = []
    for path in sorted(folder.glob("*.png")):
        try:
            content = files.content_of(path, most=MOST_BYTES)
        except OSError:  # too large for a page, or no file
            continue
        if path.stem not in ("figure", *KINDS) and content.startswith(b"\x89PNG\r\n"):
            found.append(Picture(name=path.name, content=base64.b64encode(content).decode()))
    return found[:MOST_PICTURES]
