"""globals, typedefs, narrative, todo: how files and declarations look."""

import re

from source import Finding

_PRODUCT = ("node", "regions", "lua", "cli")
_TYPE_ONLY = re.compile(r"(struct|union|enum)\s*")


def _is_mutable(head):
    """True if a variable declared by these words can change. For pointers the pointer counts."""
    return re.search(r"\bconst\b", head.rsplit("*", 1)[-1]) is None


def _declaration(source, piece):
    """The words of a variable's declaration without its initialiser, or None if it is none."""
    text = source.plain[piece.start:piece.end]
    head = source.plain[piece.start:piece.head_end]
    if piece.is_function or re.match(r"\s*(typedef|_Static_assert|extern)\b", text):
        return None
    if piece.head_end != piece.end and "=" not in head:
        # struct foo { ... } is a type; struct foo { ... } name; declares a variable as well.
        head = "struct foo " + text[text.rindex("}") + 1:]
    return head.split("=", 1)[0].strip()


def _check_global(source, piece):
    text = _declaration(source, piece)
    if not text or piece in (p for p in source.pieces if p.is_function):
        return None
    found = re.fullmatch(r"(?P<head>[\w\s*]+?[\s*])(?P<name>\w+)\s*(\[[^\]]*\]\s*)*", text)
    if found is None or _TYPE_ONLY.fullmatch(found.group("head")):
        return None  # A prototype, a macro, a type.
    if not _is_mutable(found.group("head")):
        return None
    return Finding(source.path, source.start_line(piece), "globals",
                   f"{found.group('name')} is a mutable global: state hangs off struct shard")


def check_globals(tree):
    for source in tree.sources(*_PRODUCT):
        for piece in source.pieces:
            finding = _check_global(source, piece)
            if finding:
                yield finding
        for function in source.functions:
            for m in re.finditer(r"\bstatic\b([^;={(]*)[;={]", function.body):
                if _is_mutable(m.group(1)):
                    yield Finding(source.path, source.line_of(function.body_offset + m.start()),
                                  "globals", "a static variable is a mutable global")


def _typedef_fault(head, body, tail):
    if body is not None:
        fields = [f for f in body.strip("{} \n").split(";") if f.strip()]
        if re.match(r"\s*enum\b", head):
            return "an enum has no typedef"
        return None if len(fields) == 1 else "a struct has no typedef, unless it is an id of one field"
    if "(" in head + tail:
        return None  # A callback.
    if re.match(r"\s*(struct|enum|union)\b", head):
        return "structs and enums are named with their tag"
    return "a pointer is written as one" if "*" in head + tail else None


def check_typedefs(tree):
    """No typedef for structs, enums and pointers; ids (one field) and callbacks may have one."""
    for source in tree.sources(*_PRODUCT):
        for m in re.finditer(r"\btypedef\b([^;{]*)(\{[^}]*\})?([^;{}]*);", source.plain):
            why = _typedef_fault(*m.groups())
            if why:
                yield Finding(source.path, source.line_of(m.start()), "typedefs", why)


def check_narrative(tree):
    """Every file says first what it is about; every header can be included twice."""
    for source in tree.sources():
        if not source.text.startswith("/*"):
            yield Finding(source.path, 1, "narrative",
                          "does not open with a comment that tells its idea")
        if source.path.endswith(".h") and "#pragma once" not in source.text:
            yield Finding(source.path, 1, "narrative", "a header without #pragma once")


def check_todo(tree):
    """A TODO names the folder that owns it."""
    for source in tree.sources():
        for number, line in enumerate(source.lines, 1):
            if re.search(r"\b(FIXME|XXX)\b|\bTODO\b(?!\([a-z0-9/_-]+\): \S)", line):
                yield Finding(source.path, number, "todo",
                              "write TODO(folder): and what would trigger the work")
