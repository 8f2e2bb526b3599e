"""readme: each folder says what it is, whom it may call and what always holds."""

import os
import re

from source import Finding

HEADINGS = ("What lives here", "Who calls it", "What it may call", "Data flow", "Invariants",
            "Read in this order")
_TOPS = ("regions", "lua", "cli", "tests", "terraform")
_LINES_MAX = 180  # Three screens.


def _folders(tree):
    """Folders that need a README: those that CONTRIBUTING.md names, when they hold any file."""
    node = {"/".join(p.split("/")[:2]) for p in tree.paths if re.match(r"node/[^/]+/", p)}
    tops = {t for t in _TOPS if any(p.startswith(t + "/") for p in tree.paths)}
    return sorted((node | tops) - {"node/docs"})


def check(tree):
    for folder in _folders(tree):
        path = f"{folder}/README.md"
        if path not in tree.paths:
            yield Finding(path, 1, "readme", "missing")
            continue
        with open(os.path.join(tree.root, path), encoding="utf-8") as f:
            text = f.read()
        for heading in HEADINGS:
            if not re.search(rf"^#+\s*{heading}\b", text, re.MULTILINE | re.IGNORECASE):
                yield Finding(path, 1, "readme", f'has no heading "{heading}"')
        if text.count("\n") > _LINES_MAX:
            yield Finding(path, 1, "readme", f"is longer than {_LINES_MAX} lines, three screens")
