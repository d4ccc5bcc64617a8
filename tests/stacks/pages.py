"""The pages of docs/stacks taken literally: their files in a directory of their own, and the commands that run them."""

from __future__ import annotations

import re
import shlex
import textwrap
from pathlib import Path

from grocketmq.embedded import EmbeddedCluster
from tests.meta.source import ROOT

PAGES = ROOT / "docs" / "stacks"
#: The name servers of the pages.
NAMESRV = re.compile(r"10\.0\.0\.\d:9876(;10\.0\.0\.\d:9876)*")
_FILE = re.compile(r"^(?:[^\n]*[ (])?``([\w./]+)``[^\n`]*::\n\n((?:    .*\n|\n)+)", re.MULTILINE)
_INCLUDED = re.compile(r"^(?:[^\n]*[ (])?``([\w./]+)``[^\n`]*:\n\n\.\. literalinclude:: (\S+)\n", re.MULTILINE)
_COMMAND = re.compile(r"``((?:[A-Z_]+=\S+ )*(?:gunicorn|uwsgi|python|celery|flask) [^`]+)``")


def write_page(name: str, cluster: EmbeddedCluster, directory: Path, section: str = "") -> None:
    """Write the files that a page shows, for another cluster than the page's.

    :param section: only of the part of the page that begins with this title.
    """
    text = _section(name, section)
    files = [(path, textwrap.dedent(code).strip() + "\n") for path, code in _FILE.findall(text)]
    files += [(path, (PAGES / included).read_text()) for path, included in _INCLUDED.findall(text)]
    assert files, f"{name} shows no file"
    for path, code in files:
        (directory / path).parent.mkdir(exist_ok=True)
        (directory / path).write_text(NAMESRV.sub(cluster.namesrv, code))


def page_command(name: str, program: str, cluster: EmbeddedCluster, section: str = "") -> tuple[list[str], dict[str, str]]:
    """The first command of a page that runs a program: its words, and the environment that it sets."""
    for found in _COMMAND.findall(_section(name, section)):
        words = shlex.split(NAMESRV.sub(cluster.namesrv, found.replace("\n", " ")))
        environment = {}
        while "=" in words[0]:
            key, _, environment[key] = words.pop(0).partition("=")
        if words[0] == program:
            return words, environment
    raise AssertionError(f"{name} has no command that runs {program}")


def _section(name: str, title: str) -> str:
    text = (PAGES / f"{name}.rst").read_text(encoding="utf-8")
    if not title:
        return text
    after = text.split(f"\n{title}\n{'-' * len(title)}\n", 1)[1]
    return re.split(r"\n[^\n]+\n-{3,}\n", after)[0]
