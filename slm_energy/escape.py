"""Text that came from a run, made harmless for each kind of output.

Labels, reasons and generated code are not trusted: nothing in them may act as markup, as a command,
or hide what it is.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from slm_energy.errors import one_line

# Controls (not tab and newline), what turns the direction of text or has no width, half letters.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_FORMULA = re.compile(r"'*[=+@\t\r-]")
_MARKDOWN = re.compile(r"[\\|*`\[_~$]")
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%",
    "#": r"\#", "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\char34{}",
    "`": r"\char96{}", "[": "{[}", "]": "{]}",
}  # fmt: skip
_LAST_IN_FONT = 0x17F
"""Latin letters up to here are in the fonts that LaTeX loads by default."""


def visible(text: str) -> str:
    """Show what a terminal would obey, or a reader not see: an escape becomes `␛`."""
    return _HIDDEN.sub(lambda match: _shown(match[0]), text)


def visible_line(text: str) -> str:
    """The same in one line: where a label breaks a line, a reader sees `␊`."""
    return visible(text).replace("\t", "␉").replace("\n", "␊")


def _shown(character: str) -> str:
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else f"<U+{code:04X}>"


def shell_override(key: str, value: str | Sequence[object] | Mapping[str, object] | None) -> str:
    """KEY=VALUE, quoted for Hydra where its grammar needs that, and then for a shell."""
    return shlex.quote(f"{key}={_for_hydra(value)}")


def _for_hydra(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_for_hydra(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_for_hydra, value)) + "]"
    text = str(value)
    is_plain = re.fullmatch(r"[A-Za-z./][\w/.:+@%-]*", text, re.ASCII) is not None
    if is_plain and text.lower() not in ("null", "true", "false", "nan", "inf"):
        return text
    # Within quotes Hydra's grammar takes a backslash as it is, except before a quote.
    doubled = re.sub(r'(\\+)(?="|\Z)', r"\1\1", text)
    return '"' + doubled.replace('"', '\\"') + '"'


def spreadsheet(text: str) -> str:
    """Text that a spreadsheet does not take for a formula, as it does what begins with `=+-@`.

    It gets an apostrophe, as spreadsheets themselves write; `from_spreadsheet` removes it.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def from_spreadsheet(text: str) -> str:
    """The text that `spreadsheet` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def markdown(text: str) -> str:
    """One line that Markdown shows as it is."""
    text = visible(one_line(text, 1000)).replace("&", "&amp;").replace("<", "&lt;")
    return _MARKDOWN.sub(r"\\\g<0>", text)


def latex(text: str) -> str:
    """One line that LaTeX sets as it is; letters that its fonts lack appear as their numbers."""
    text = "".join(
        character if ord(character) <= _LAST_IN_FONT else f"<U+{ord(character):04X}>"
        for character in visible(one_line(text, 1000))
    )
    return "".join(_LATEX.get(character, character) for character in text)
