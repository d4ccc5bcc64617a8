"""README.rst taken apart: its Python blocks and its tables of options."""

import re
import textwrap

from tests.meta.source import ROOT

README = ROOT / "README.rst"
_BLOCK = re.compile(r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", re.MULTILINE)
_ROW = re.compile(r"^``(\w+)`` +(\S+|\(see text\)) {2,}\S", re.MULTILINE)


def text() -> str:
    return README.read_text(encoding="utf-8")


def python_blocks() -> list[str]:
    """The code of every Python block, in order."""
    return [textwrap.dedent(code).strip() + "\n" for code in _BLOCK.findall(text())]


def section(title: str) -> str:
    """A section's text, without its title."""
    body = text().split(f"\n{title}\n{'-' * len(title)}\n", 1)[1]
    return re.split(r"\n[^\n]+\n-{3,}\n", body)[0]


def option_table(owner: str) -> dict[str, str]:
    """Option -> default, of the table under a line that names its owner."""
    return dict(_ROW.findall(re.split(r"\n\S[^\n]*:\n\n", section("Options").split(f"\n{owner}:\n\n")[1])[0]))
