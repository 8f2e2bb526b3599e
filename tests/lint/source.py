"""Reading C well enough for the rules: files without comments, top-level pieces, functions, marks.

No preprocessor and no types: a rule that needs those belongs to clang-tidy. Comments, literals and
preprocessor lines are blanked with spaces, so that offsets and line numbers stay those of the file.
"""

import functools
import os
import re
from dataclasses import dataclass, field

TOP_FOLDERS = ("node", "regions", "lua", "cli", "tests", "terraform")

_LITERAL_OR_COMMENT = re.compile(
    r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
_DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)
_ALLOW = re.compile(r"lint-allow\(([a-z-]+)\):\s*\S")
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)
# What may stand behind the parameters of a function, with parentheses of its own.
_TRAILING_MACROS = ("PRINTF_LIKE", "__attribute__", "__asm__")


@dataclass(frozen=True, order=True)
class Finding:
    path: str
    line: int
    rule: str
    message: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.rule}: {self.message}"


@dataclass
class Function:
    name: str
    line: int  # Of the first word of the signature.
    end_line: int  # Of the closing brace; of the semicolon for a prototype.
    signature: str
    body: str  # Blanked text between the braces; "" for a prototype.
    body_offset: int

    @property
    def is_static(self):
        return re.search(r"\bstatic\b", self.signature) is not None

    @property
    def mark(self):
        """"MAYYIELD", "NOYIELD" or None."""
        found = re.search(r"\b(MAYYIELD|NOYIELD)\b", self.signature)
        return found.group(1) if found else None


def _blank(match):
    return re.sub(r"[^\n]", " ", match.group(0))


def _opening_of(text, close):
    """Offset of the parenthesis that the one at `close` closes, or -1."""
    depth = 0
    for i in range(close, -1, -1):
        depth += (text[i] == ")") - (text[i] == "(")
        if depth == 0:
            return i
    return -1


def _declared_name(head):
    """Name of the function that a signature declares, or None if it declares none."""
    end = len(head)
    while True:
        close = head.rfind(")", 0, end)
        opening = _opening_of(head, close) if close >= 0 else -1
        name = re.search(r"([A-Za-z_]\w*)\s*$", head[:opening]) if opening > 0 else None
        if name is None:
            return None  # No parameters, or a (*callback)(...).
        if name.group(1) not in _TRAILING_MACROS:
            return name.group(1)
        end = name.start()


def _is_function_head(head):
    """`static int f(int a)`, `TEST(a, b)`; no initialiser, no assertion, no callback."""
    if "=" in head or re.search(r"\b(_Static_assert|typedef)\b", head):
        return False
    return _declared_name(head) is not None


@dataclass
class Piece:
    """One top-level declaration or definition: head [start, head_end), all [start, end)."""
    start: int
    head_end: int  # Of the first brace, or of the semicolon.
    end: int  # Of the closing brace of a function, or of the semicolon.
    is_function: bool  # A definition with a body.


class Source:
    """One C file. Line numbers start at 1."""

    def __init__(self, root, path):
        self.path = path
        with open(os.path.join(root, path), encoding="utf-8") as f:
            self.text = f.read()
        self.lines = self.text.split("\n")

    @functools.cached_property
    def code(self):
        """The text with comments and literals blanked."""
        return _LITERAL_OR_COMMENT.sub(_blank, self.text)

    @functools.cached_property
    def plain(self):
        """`code` with preprocessor lines blanked too."""
        return _DIRECTIVE.sub(_blank, self.code)

    @functools.cached_property
    def includes(self):
        """(line, '<' or '"', path) of each include; commented ones do not count."""
        found = []
        for m in _INCLUDE.finditer(self.text):
            hash_at = self.text.index("#", m.start())
            if self.code[hash_at] == "#":
                found.append((self.line_of(hash_at), m.group(1), m.group(2)))
        return found

    def line_of(self, offset):
        return self.text.count("\n", 0, offset) + 1

    def allows(self, rule, line):
        """True if this line, or the one above it, carries `lint-allow(rule): reason`."""
        near = self.lines[max(line - 2, 0):line]
        return any(m.group(1) == rule for text in near for m in _ALLOW.finditer(text))

    @functools.cached_property
    def pieces(self):
        text, found = self.plain, []
        start, head_end, braces, parens = 0, None, 0, 0
        for m in re.finditer(r"[(){};]", text):
            i, c = m.start(), m.group(0)
            parens += (c == "(") - (c == ")")
            if c == "{":
                if braces == 0 and head_end is None:
                    head_end = i
                braces += 1
            elif c == "}":
                braces -= 1
                if braces == 0 and parens == 0 and _is_function_head(text[start:head_end]):
                    found.append(Piece(start, head_end, i, True))
                    start, head_end = i + 1, None
            elif c == ";" and braces == 0 and parens == 0:
                found.append(Piece(start, i if head_end is None else head_end, i, False))
                start, head_end = i + 1, None
        return found

    def start_line(self, piece):
        """Line of the first word of a piece."""
        text = self.plain[piece.start:piece.end]
        return self.line_of(piece.start + len(text) - len(text.lstrip()))

    def _function(self, piece):
        head = self.plain[piece.start:piece.head_end]
        body = self.plain[piece.head_end + 1:piece.end]
        return Function(_declared_name(head), self.start_line(piece), self.line_of(piece.end),
                        head.strip(), body, piece.head_end + 1)

    @functools.cached_property
    def functions(self):
        """All functions that are defined here."""
        return [self._function(p) for p in self.pieces if p.is_function]

    @functools.cached_property
    def prototypes(self):
        """All functions that are only declared here."""
        return [self._function(p) for p in self.pieces
                if not p.is_function and p.head_end == p.end and
                _is_function_head(self.plain[p.start:p.end])]

    def calls(self, function):
        """(name, line, through a field) of everything that looks like a call in the body."""
        for m in re.finditer(r"(->|\.)?\s*\b([A-Za-z_]\w*)\s*\(", function.body):
            yield (m.group(2), self.line_of(function.body_offset + m.start(2)),
                   m.group(1) is not None)


@dataclass
class Tree:
    """The checked-out tree: what the rules look at."""

    root: str
    build: str = "build/debug"
    jobs: int = 1
    _sources: dict = field(default_factory=dict)

    @functools.cached_property
    def paths(self):
        found = []
        for top in TOP_FOLDERS:
            for folder, folders, files in os.walk(os.path.join(self.root, top)):
                folders[:] = sorted(d for d in folders if not d.startswith("."))
                found += [os.path.relpath(os.path.join(folder, n), self.root) for n in sorted(files)]
        return found

    @property
    def c_paths(self):
        return [p for p in self.paths if p.endswith((".c", ".h"))]

    def source(self, path):
        if path not in self._sources:
            self._sources[path] = Source(self.root, path)
        return self._sources[path]

    def rewrite(self, source, text):
        """Replaces a file; returns its new Source."""
        with open(os.path.join(self.root, source.path), "w", encoding="utf-8") as f:
            f.write(text)
        self._sources[source.path] = Source(self.root, source.path)
        return self._sources[source.path]

    def sources(self, *tops):
        """C files, all of them or those below the given folders."""
        prefixes = tuple(t + "/" for t in tops) or ("",)
        return [self.source(p) for p in self.c_paths if p.startswith(prefixes)]

    def closure(self, path):
        """The file and all of ours that it includes, directly or not."""
        seen, todo = set(), [path]
        while todo:
            p = todo.pop()
            if p in seen or not os.path.exists(os.path.join(self.root, p)):
                continue
            seen.add(p)
            if p.endswith((".c", ".h")):
                todo += [inc for _, kind, inc in self.source(p).includes if kind == '"']
        return sorted(seen)
