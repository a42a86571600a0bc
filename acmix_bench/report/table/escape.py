"""Text of a user in LaTeX: every character prints as itself."""

from __future__ import annotations

import re
import unicodedata

from acmix_bench.report.table.grid import one_line

SIGNS = {
    **{sign: f"\\{sign}" for sign in "$&#%_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "`": r"\textasciigrave{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''"},
    **{"[": "{[}", "]": "{]}", "*": "{*}"},  # behind the end of a row they would be read as its arguments
    **{"±": r"$\pm$", "×": r"$\times$", "≥": r"$\geq$", "≤": r"$\leq$", "≈": r"$\approx$", "→": r"$\rightarrow$"},
    **{"–": "--", "—": "---", "…": r"\dots{}", "‘": "`", "’": "'", "“": "``", "”": "''", "−": "$-$", "·": r"$\cdot$"},
    **{"°": r"$^\circ$", "µ": r"$\mu$", "²": "$^2$", "³": "$^3$", "∞": r"$\infty$", "\xa0": "~", "\u200b": "{}"},
    **{"ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}"},
    **{"ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}"},
}
GREEK = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu"),
    *("xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"),
    *("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"),
)
SIGNS |= {letter: f"$\\{name}$" for letter, name in zip("αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩ", GREEK, strict=True)}
# What stands above or below a letter, by its combining sign.
ACCENTS = dict(zip("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030b\u030c\u0327", "`'^~=u.\"Hvc", strict=True))


def escaped(text: str) -> str:
    """Text of any kind as LaTeX that prints it, in ASCII; a character that LaTeX's fonts lack is told by its number."""
    return escaped_part(one_line(text))


def escaped_part(text: str) -> str:
    """A piece of a line, whose spaces at both ends count."""
    text = re.sub(r"(?<![\w'])'(?=[\w=])", "‘", text)
    text = re.sub(r"(?<=\d) (?=%)", "\xa0", text)  # no line begins with a sign of percent
    text = re.sub(r"-(?=-)|,(?=,)|[?!](?=[`‘“])", "\\g<0>\u200b", text)  # signs that would join
    return "".join(map(_character, text))


def _character(c: str) -> str:
    if c in SIGNS or c.isascii():
        return SIGNS.get(c, c)
    letter, *above = list(unicodedata.normalize("NFD", c))
    if len(above) == 1 and letter.isascii() and above[0] in ACCENTS:
        return f"\\{ACCENTS[above[0]]}{{{letter}}}"
    return f"{{[}}U+{ord(c):04X}{{]}}"
