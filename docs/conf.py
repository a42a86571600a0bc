"""The site's settings, which Sphinx reads: `nox -s docs` builds it into build/site.

The pages are those that anyone reads as plain Markdown, from where they lie; only what would say a thing twice is made
(`made.py`, beside this file). Nothing of a page comes from a network when it is read.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

sys.path.insert(0, str(Path(__file__).parent))
import made

project = "acmix-bench"
root_doc = "README"
html_title = project
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

include_patterns = [
    "*.md",
    "docs/**.md",
    "results/README.md",
    "results/published/README.md",
    "examples/mixers/README.md",
]
exclude_patterns = [".*", "acmix_bench", "build", "dist", "data", "runs", "tests", "results/shown", "**/__pycache__"]

# Markdown as the host of the code reads it: headings are anchors, dollars are formulas.
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]
highlight_language = "text"

# Docstrings are in Google's style, and a word in backticks is code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
python_use_unqualified_type_names = True
maximum_signature_line_length = 90
autodoc_inherit_docstrings = toc_object_entries = add_module_names = smartquotes = False
SECTIONS = ("Args:", "Attributes:", "Returns:", "Raises:", "Shape:")
napoleon_custom_sections = ["Shape"]
napoleon_use_ivar = True

html_theme = "furo"
html_static_path = ["style"]
html_css_files = ["site.css"]
html_show_sphinx = html_copy_source = html_show_copyright = False
html_show_search_summary = False  # a browser reads no other page of a folder
html_math_renderer = "mathml"


def setup(app: Any) -> None:
    """Tell Sphinx what is made here."""
    app.add_html_math_renderer("mathml", (_formula, None), (_formula, None))
    app.connect("builder-inited", lambda app: made.write(Path(app.srcdir)))
    app.connect("source-read", _for_the_site)
    app.connect("autodoc-process-docstring", _keep_indented, priority=400)  # before napoleon's
    app.connect("doctree-read", _with_dashes)
    app.connect("build-finished", _begin_at_the_readme)


def _formula(writer: Any, node: nodes.Element) -> None:
    """A formula as MathML, which browsers draw themselves."""
    display = "block" if isinstance(node, nodes.math_block) else "inline"
    formula = convert(node.astext(), display=display)
    writer.body.append(f'<div class="formula">{formula}</div>' if display == "block" else formula)
    raise nodes.SkipNode


def _for_the_site(app: Any, docname: str, source: list[str]) -> None:
    """Add the contents where they belong, and lead links to files that have a page here to that page."""
    source[0] = made.with_links(source[0], docname) + made.contents(docname)


def _keep_indented(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """What a docstring indents below a colon stands as it is, but in the sections that napoleon reads."""
    for number in reversed(range(len(lines) - 1)):
        below = next((line for line in lines[number + 1 :] if line.strip()), "")
        if re.match(r"\S.*:$", lines[number]) and below.startswith("    ") and lines[number] not in SECTIONS:
            lines[number : number + 1] = [lines[number] + ":", ""]


def _with_dashes(app: Any, doctree: nodes.document) -> None:
    """What Sphinx sets between a parameter and its meaning."""
    for text in list(doctree.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" – "))


def _begin_at_the_readme(app: Any, failed: Exception | None) -> None:
    if not failed:
        page = f'<!DOCTYPE html><title>{project}</title><meta http-equiv="refresh" content="0; url={root_doc}.html">'
        (Path(app.outdir) / "index.html").write_text(f'{page}\n<a href="{root_doc}.html">{project}</a>\n')
