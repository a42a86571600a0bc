"""Check the site that was built: every link leads somewhere in it, and nothing of it comes from a network.

`python docs/check_site.py FOLDER`. Links to other sites are left alone.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote


class Page(HTMLParser):
    """The places of a page that can be linked to, what it links to, and what a browser loads with it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Sort out what a tag names."""
        told = {key: value for key, value in attrs if value}
        self.ids |= {told[key] for key in ("id", "name") if key in told}
        (self.links if tag == "a" else self.loaded).extend(told[key] for key in ("href", "src") if key in told)


def faults(folder: Path) -> Iterator[str]:
    """What is wrong, a line each."""
    pages = {path: Page(path) for path in sorted(folder.rglob("*.html"))}
    for path, page in pages.items():
        of = path.relative_to(folder)
        for link in page.loaded:
            if re.match(r"(https?:)?//", link):
                yield f"{of}: loads {link}"
        for link in page.links + page.loaded:
            if re.match(r"[a-z]+:|//", link):
                continue
            file, _, fragment = link.partition("#")
            target = (path.parent / unquote(file.partition("?")[0])).resolve() if file else path
            if not target.exists():
                yield f"{of}: no file {link}"
            elif fragment and target in pages and unquote(fragment) not in pages[target].ids:
                yield f"{of}: no such place {link}"
    for style in folder.rglob("*.css"):
        for link in re.findall(
            r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')]+)", style.read_text(encoding="utf-8")
        ):
            yield f"{style.relative_to(folder)}: loads {link}"


if __name__ == "__main__":
    found = list(faults(Path(sys.argv[1]).resolve()))
    print("\n".join(found) or "every link leads somewhere, and nothing comes from a network")
    sys.exit(bool(found))
