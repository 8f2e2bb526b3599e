"""length and yields: what functions may look like and whom they may call.

length: 71 to 80 lines are refused. Longer ones are big on purpose (a table of cases), shorter ones are
fine; what creeps up to 80 is not.

yields: public functions say NOYIELD or MAYYIELD in their header. A static function without a mark is
NOYIELD. A NOYIELD function calls no MAYYIELD one, so what may yield says so all the way up. Calls
through fields follow the mark of the field, when all fields of that name agree.
"""

import re

from source import Finding

LENGTH_REFUSED = range(71, 81)
_MARKED = ("node", "regions", "lua")
_FIELD = re.compile(r"[;{}]\s*(MAYYIELD|NOYIELD)?[^;{}()]*\(\s*\*\s*(\w+)\s*\)\s*\(")


def check_length(tree):
    for source in tree.sources():
        for f in source.functions:
            lines = f.end_line - f.line + 1
            if lines in LENGTH_REFUSED:
                yield Finding(source.path, f.line, "length",
                              f"{f.name}() has {lines} lines: split it by idea")


def _public_marks(tree):
    marks = {}
    for source in tree.sources():
        if source.path.endswith(".h"):
            marks.update((f.name, f.mark) for f in source.prototypes + source.functions if f.mark)
    return marks


def _field_marks(tree, source):
    """Marks of function pointers in the structs that a file can see, when those of a name agree."""
    seen = {}
    for path in tree.closure(source.path):
        if path.endswith((".c", ".h")):
            for mark, name in _FIELD.findall(tree.source(path).plain):
                seen.setdefault(name, set()).add(mark or "NOYIELD")
    return {name: marks.pop() for name, marks in seen.items() if len(marks) == 1}


def _local_marks(source):
    """Static functions of a file: a forward declaration counts as well as the definition."""
    marks = {}
    for f in source.prototypes + source.functions:
        if f.is_static and marks.get(f.name) != "MAYYIELD":
            marks[f.name] = f.mark or "NOYIELD"
    return marks


def _check_header(source):
    for f in source.prototypes:
        if f.mark is None and not f.is_static:
            yield Finding(source.path, f.line, "yields",
                          f"{f.name}() says neither NOYIELD nor MAYYIELD")


def _wrong_calls(source, public, fields):
    """(function, name, line) of each call that may yield from a function that may not."""
    local = _local_marks(source)
    for f in source.functions:
        if (local.get(f.name) or f.mark or public.get(f.name)) == "MAYYIELD":
            continue
        for name, line, through_field in source.calls(f):
            mark = fields.get(name) if through_field else local.get(name, public.get(name))
            if mark == "MAYYIELD":
                yield f, name, line


def check_yields(tree):
    public = _public_marks(tree)
    for source in tree.sources(*_MARKED):
        if source.path.endswith(".h"):
            yield from _check_header(source)
        fields = _field_marks(tree, source)
        for f, name, line in _wrong_calls(source, public, fields):
            yield Finding(source.path, line, "yields",
                          f"{f.name}() is NOYIELD and calls {name}(), which may yield")


def fix_yields(tree):
    """Marks static functions that yield and say nothing. What says NOYIELD is left to a person."""
    public = _public_marks(tree)
    for source in tree.sources(*_MARKED):
        fields = _field_marks(tree, source)
        while True:
            # Both the definition and a declaration before it are marked, last one first.
            names = {f.name for f, _, _ in _wrong_calls(source, public, fields)
                     if f.is_static and f.mark is None}
            lines = sorted((f.line for f in source.functions + source.prototypes
                            if f.name in names and f.is_static and f.mark is None), reverse=True)
            if not lines:
                break
            for line in lines:
                text = source.lines[line - 1]
                source.lines[line - 1] = text.replace("static", "MAYYIELD static", 1)
            source = tree.rewrite(source, "\n".join(source.lines))
