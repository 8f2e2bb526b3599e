"""slt.py -- the format of the files that record what a statement answers; see README.md.

A file is a list of blocks, separated by blank lines. A block is comments and directives, a statement,
the line `----`, and the answer:

    # why this is here
    @params int4:7
    select a, b from t where a = $1
    ----
    | a:int4 | b:text |
    | 7 | NULL |
    SELECT 1
"""

import json
import re

DIRECTIVES = ("params", "conn", "unordered", "nomessage", "simple-only", "own")


class Block:
    def __init__(self, path, line):
        self.path, self.line = path, line
        self.comments = []
        self.directives = {}
        self.sql = ""
        self.answer = []

    @property
    def place(self):
        return f"{self.path}:{self.line}"

    @property
    def key(self):
        """How KNOWN.md names the statement: its text on one line, parameters in front."""
        text = " ".join(self.sql.split())
        params = self.directives.get("params")
        return f"[{params}] {text}" if params is not None else text

    def format(self):
        lines = list(self.comments)
        lines += [f"@{name} {value}".rstrip() for name, value in self.directives.items()]
        return "\n".join([*lines, self.sql, "----", *self.answer]) + "\n"


class FormatError(Exception):
    pass


def parse(path, text):
    """The blocks of a file, and the comments at its very end."""
    blocks = []
    tail = []
    for match in re.finditer(r"(?:[^\n]+\n)+", text if text.endswith("\n") else text + "\n"):
        line = text.count("\n", 0, match.start()) + 1
        block = _parse_block(path, line, match.group().splitlines())
        if block is None:
            tail += match.group().splitlines()
        else:
            block.comments = tail + block.comments
            tail = []
            blocks.append(block)
    return blocks, tail


def _parse_block(path, line, lines):
    block = Block(path, line)
    at = 0
    while at < len(lines) and lines[at][0] in "#@":
        if lines[at][0] == "#":
            block.comments.append(lines[at])
        else:
            name, _, value = lines[at][1:].partition(" ")
            if name not in DIRECTIVES:
                raise FormatError(f"{path}:{line + at}: unknown directive @{name}")
            block.directives[name] = value.strip()
        at += 1
    if at == len(lines):
        return None  # Only comments: they belong to the next block.
    rest = lines[at:]
    cut = rest.index("----") if "----" in rest else len(rest)
    block.sql = "\n".join(rest[:cut])
    block.answer = rest[cut + 1:]
    return block


def parse_params(text):
    """`int4:7, text:"a, b", NULL` -> [(type name or None, text or None)]"""
    params = []
    at = 0
    decoder = json.JSONDecoder()
    while at < len(text):
        match = re.compile(r"\s*(?:([a-z0-9]+):)?").match(text, at)
        at = match.end()
        if text.startswith('"', at):
            value, at = decoder.raw_decode(text, at)
        else:
            end = text.find(",", at)
            end = len(text) if end < 0 else end
            value = text[at:end].strip()
            at = end
            value = None if value == "NULL" else value
        params.append((match.group(1), value))
        rest = text[at:].lstrip()
        if rest and rest[0] != ",":
            raise FormatError(f"parameters: expected a comma at \"{rest}\"")
        at = len(text) - len(rest) + 1 if rest else len(text)
    return params


def cell(value):
    """A value as it stands in an answer: bare when that is clear, else a JSON string."""
    if value is None:
        return "NULL"
    if value and value != "NULL" and value == value.strip() and re.fullmatch(r"[^|\"\x00-\x1f]+", value):
        return value
    return json.dumps(value, ensure_ascii=False)


def row_line(cells):
    return "| " + " | ".join(cells) + " |" if cells else "|"


def notice_lines(kind, notice, message=True):
    lines = [f"{kind} {notice.sqlstate}" + (f" {cell(notice.message)}" if message else "")]
    for name in ("position", "detail", "hint", "schema", "table", "column", "type", "constraint"):
        value = getattr(notice, name)
        if value is not None and (message or name not in ("detail", "hint")):
            lines.append(f"  {name} {cell(value)}")
    return lines


def answer_lines(result, message=True, ordered=True):
    """A Result of pgclient as an answer."""
    lines = []
    for notice in result.notices:
        lines += notice_lines(notice.severity_plain, notice, message)
    if result.columns is not None and result.error is None:
        lines.append(row_line([f"{cell(c.name)}:{c.type_name}" for c in result.columns]))
        rows = [row_line([cell(v) for v in row]) for row in result.texts()]
        lines += rows if ordered else sorted(rows)
    if result.error is not None:
        lines += notice_lines("ERROR", result.error, message)
    elif result.empty:
        lines.append("EMPTY")
    elif result.tag is not None:
        lines.append(result.tag)
    return lines
