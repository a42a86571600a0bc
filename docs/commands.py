"""Write commands.md, beside this file, from what the command line says of itself: `python docs/commands.py`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer
from rich.errors import MarkupError
from rich.text import Text

from acmix_bench.cli import app

PAGE = Path(__file__).with_suffix(".md")
PROGRAM = "acmix-bench"
WIDTH = 120


def page() -> str:
    """The page: the program, a list of its commands, and each of them."""
    group: Any = typer.main.get_command(app)
    commands = {name: command for name, command in group.commands.items() if not command.hidden}
    asked = " or ".join(f"`{name}`" for name in group.context_settings.get("help_option_names", ["--help"]))
    made = f"Made from the command line's own help by `python docs/{Path(__file__).name}`: edit that, not this page."
    parts = ["# Commands", f"{made} Every command takes {asked}.", *_prose(group.help), *_tables(group)]
    parts.append("\n".join(f"- [{name}](#{name}): {next(_prose(one.help), '')}" for name, one in commands.items()))
    for name, command in commands.items():
        parts += [f"## {name}", _code(_usage(name, command)), *_prose(command.help), *_tables(command)]
    return "\n\n".join(map(_wrapped, parts)) + "\n"


def _prose(text: str | None) -> Iterator[str]:
    r"""A help text in Markdown, paragraph by paragraph: one that \b opens is kept line by line, as code."""
    for raw in re.split(r"\n\s*\n", (text or "").partition("\f")[0].strip()):
        paragraph = _plain(raw.lstrip("\b\n"))  # rich would drop the \b
        first, _, rest = paragraph.partition("\n")
        title, colon, example = paragraph.partition(": ")
        if raw.startswith("\b"):
            if first.endswith(":"):
                yield _escaped(first)
            yield _code(rest if first.endswith(":") else paragraph)
        elif colon and example.startswith(f"{PROGRAM} "):
            yield _escaped(title + colon.strip())
            yield _code(" ".join(example.split()))
        elif paragraph:
            yield _escaped(" ".join(paragraph.split()))


def _usage(name: str, command: Any) -> str:
    """How a command is called: what it must be given, and what it may."""
    needed = [f"{_longest(one)} {_value(one)}" for one in _shown(command, "option") if one.required]
    return " ".join([PROGRAM, name, *map(_place, _shown(command, "argument")), *needed, "[OPTIONS]"])


def _tables(command: Any) -> Iterator[str]:
    """The arguments and the options of a command, a table each."""
    kinds: dict[str, Callable[[Any], str]] = {"argument": lambda one: f"`{_place(one)}`", "option": _names}
    for kind, names in kinds.items():
        grid = [(kind, "meaning", "default"), ("---", "---", "---")]
        for one in _shown(command, kind):
            meaning = _escaped(" ".join(_plain(getattr(one, "help", None)).split()))
            grid.append((names(one), meaning, _default(one)))
        if len(grid) > 2:
            yield "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in grid)


def _shown(command: Any, kind: str) -> list[Any]:
    return [one for one in command.params if one.param_type_name == kind and not getattr(one, "hidden", False)]


def _names(option: Any) -> str:
    """All ways to write an option, and for one with a value where that stands."""
    first, *others = sorted([*option.opts, *option.secondary_opts], key=lambda name: name != _longest(option))
    return ", ".join(f"`{name}`" for name in [first if option.is_flag else f"{first} {_value(option)}", *others])


def _longest(option: Any) -> str:
    return str(max(option.opts, key=len))


def _value(option: Any) -> str:
    return str(option.metavar or _longest(option).lstrip("-").upper())


def _place(argument: Any) -> str:
    """An argument as it stands in a usage line: in brackets where it may be left out, with dots where it repeats."""
    name = str(argument.metavar or argument.name.upper())
    if argument.nargs != 1 and not name.endswith("..."):
        name += "..."
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _default(parameter: Any) -> str:
    """A default as it is typed; nothing for none, and for a switch that is off."""
    if parameter.required:
        return "(needed)"
    told, value = getattr(parameter, "show_default", True), parameter.default
    if isinstance(told, str):
        return _escaped(told)
    value = value.value if isinstance(value, Enum) else value
    return f"`{value}`" if told and value is not False and isinstance(value, str | int | float | Path) else ""


def _plain(text: str | None) -> str:
    """A help text without rich's markup, which has a closing tag; any other bracket stands for itself."""
    text = text or ""
    if "[/" in text:
        try:
            return Text.from_markup(text).plain
        except MarkupError:
            return text
    return text.replace(r"\[", "[")


def _escaped(text: str) -> str:
    """What Markdown would read as a sign of its own stands for itself, except in code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*<])", r"\\\1", part) for part in parts)


def _code(text: str) -> str:
    return textwrap.indent(textwrap.dedent(text).strip("\n"), "    ")


def _wrapped(part: str) -> str:
    """Prose and lists by the width; code, tables and headings as they are."""
    if part.startswith(("    ", "|", "#")):
        return part
    folded = textwrap.TextWrapper(WIDTH, break_long_words=False, break_on_hyphens=False)
    folded.subsequent_indent = "  " * part.startswith("- ")
    return "\n".join(line for paragraph in part.split("\n") for line in folded.wrap(paragraph))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
