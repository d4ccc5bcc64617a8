"""What is in the repository holds true on every machine."""

import re
import subprocess

import pytest

from tests.meta.source import ROOT

# Written so that this file does not match itself.
PATTERNS = {
    "a path of one machine": re.compile(r"(?<![\w.~$}>-])/(?:home/\w|Users/\w|(?:root|work|tmp)/)"),
    "a package index": re.compile(r"index[-]url|PIP_(?:EXTRA_)?INDEX[_]URL|PIP_FIND[_]LINKS"),
    "a private registry": re.compile(r"(?i)https?://[^\s/]*(?:artifactory|nexus|registry|mirror)[^\s/]*[/:]"),
}
#: Recorded bytes and texts of others.
RECORDED = ("tests/vectors/data/", "LICENSE")


def tracked_texts() -> dict[str, str]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        timeout=30,
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    texts = {}
    for name in listing.stdout.decode().split("\0"):
        path = ROOT / name
        if name and not name.startswith(RECORDED) and path.is_file():
            try:
                texts[name] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue  # binary
    return texts


@pytest.mark.parametrize("kind", PATTERNS)
def test_no_trace_of_a_machine(kind: str) -> None:
    found = [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in tracked_texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        if PATTERNS[kind].search(line)
    ]
    assert not found, f"{kind}:\n" + "\n".join(found)
