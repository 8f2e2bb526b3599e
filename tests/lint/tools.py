"""format, headers, tidy, cppcheck: what other programs check, run in parallel and not twice.

A file that passed is remembered in build/lint/ under a digest of everything that the answer depends
on: the file, what it includes of ours, the configuration and the version of the tool.
"""

import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import subprocess

from source import Finding

_HEADER_FLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wshadow", "-Wconversion",
                 "-Wstrict-prototypes", "-Werror", "-Wno-unused-function", "-fsyntax-only",
                 "-isystem/usr/include/postgresql/15/server"]  # For node/sql/parse only: layers.

# What cppcheck is not asked, and who answers instead.
_CPPCHECK_OFF = (
    "*:build/*",  # Generated.
    "missingInclude", "missingIncludeSystem",  # The compiler.
    "internalAstError",  # Its own trouble with _Generic and statement expressions.
    "uninitvar", "ctuuninitvar",  # Misreads out parameters; clang-analyzer follows values.
    "returnDanglingLifetime",  # Takes a status that was computed from a local for the local.
    "varFuncNullUB",  # NULL is a pointer on every system that we run on.
    "shiftTooManyBitsSigned",  # gcc and clang define the shift of a sign.
)


class Passed:
    """Digests of what passed before: one file per rule, rewritten with what is still current."""

    def __init__(self, tree, rule):
        self._path = os.path.join(tree.root, "build", "lint", rule + ".passed")
        self._current = set()
        try:
            with open(self._path, encoding="ascii") as f:
                self._before = set(f.read().split())
        except OSError:
            self._before = set()

    def has(self, digest):
        if digest in self._before:
            self._current.add(digest)
        return digest in self._before

    def add(self, digest):
        self._current.add(digest)

    def save(self):
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        with open(self._path, "w", encoding="ascii") as f:
            f.write("\n".join(sorted(self._current)) + "\n")


def _run(command, root):
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def _digest(tree, path, *facts):
    h = hashlib.sha256(repr(facts).encode())
    for p in tree.closure(path):
        with open(os.path.join(tree.root, p), "rb") as f:
            h.update(p.encode() + b"\0" + f.read())
    return h.hexdigest()


def _read(tree, path):
    try:
        with open(os.path.join(tree.root, path), encoding="utf-8") as f:
            return f.read()
    except OSError:
        return ""


def _version(command):
    return _run([command, "--version"], "/").stdout


def _check_each(tree, rule, paths, facts, check_one):
    """Runs check_one(path) for every path that has not passed yet; yields its findings."""
    passed = Passed(tree, rule)
    digests = {p: _digest(tree, p, facts) for p in paths}
    todo = [p for p in paths if not passed.has(digests[p])]
    with concurrent.futures.ThreadPoolExecutor(tree.jobs) as pool:
        for path, findings in zip(todo, pool.map(check_one, todo)):
            if not findings:
                passed.add(digests[path])
            yield from findings
    passed.save()


_MESSAGE = re.compile(r"^(?P<path>[^:\n]+):(?P<line>\d+):\d+: (?:error|warning|fatal error): (?P<text>.*)$",
                      re.MULTILINE)


def _messages(tree, rule, path, result):
    """Findings in the output of a compiler-like tool; its failure without any is one as well."""
    found = set()
    for m in _MESSAGE.finditer(result.stdout + result.stderr):
        where = os.path.relpath(os.path.join(tree.root, m.group("path")), tree.root)
        found.add(Finding(where, int(m.group("line")), rule, m.group("text")))
    if result.returncode != 0 and not found:
        lines = (result.stderr or result.stdout).strip().split("\n")
        found.add(Finding(path, 1, rule, "failed: " + lines[-1]))
    return sorted(found)


def check_format(tree):
    def one(path):
        result = _run(["clang-format", "--dry-run", "-ferror-limit=1", "--Werror", path], tree.root)
        found = _messages(tree, "format", path, result)
        return [Finding(f.path, f.line, "format", "run clang-format -i, or ./dev lint --fix")
                for f in found[:1]]

    facts = (_version("clang-format"), _read(tree, ".clang-format"))
    yield from _check_each(tree, "format", tree.c_paths, facts, one)


def fix_format(tree):
    for i in range(0, len(tree.c_paths), 50):
        _run(["clang-format", "-i"] + tree.c_paths[i:i + 50], tree.root)


def check_headers(tree):
    """Each header compiles alone, without warnings."""
    # The headers of PostgreSQL, for the door of its parser.
    server = _run(["sh", "-c", "pg_config --includedir-server"], "/").stdout.strip()
    flags = _HEADER_FLAGS + (["-isystem", server] if server else [])

    def one(path):
        command = ["gcc", *flags, "-I.", "-I" + tree.build, "-x", "c", "-include", path,
                   "/dev/null"]
        return _messages(tree, "headers", path, _run(command, tree.root))

    paths = [p for p in tree.c_paths if p.endswith(".h")]
    yield from _check_each(tree, "headers", paths, (_version("gcc"), flags), one)


def _compile_commands(tree):
    """path -> command, of our C files only."""
    with open(os.path.join(tree.root, tree.build, "compile_commands.json"), encoding="utf-8") as f:
        entries = json.load(f)
    commands = {}
    for entry in entries:
        path = os.path.relpath(os.path.join(entry["directory"], entry["file"]), tree.root)
        if path in tree.c_paths and path.endswith(".c"):
            commands[path] = entry.get("command", "")
    return commands


def check_tidy(tree):
    commands = _compile_commands(tree)

    def one(path):
        result = _run(["clang-tidy", "--quiet", "-p", tree.build, path], tree.root)
        return _messages(tree, "tidy", path, result)

    # The flags of the compiler, not the places of its output, are what the answer depends on.
    facts = (_version("clang-tidy"), _read(tree, ".clang-tidy"), _read(tree, "tests/.clang-tidy"))
    yield from _check_each(tree, "tidy", sorted(commands), facts, one)


def check_cppcheck(tree):
    """cppcheck keeps its own memory of what it has seen in build/lint/cppcheck."""
    memory = os.path.join(tree.root, "build", "lint", "cppcheck")
    os.makedirs(memory, exist_ok=True)
    paths = [p for p in tree.c_paths if p.endswith(".c")]
    if not paths:
        return
    listing = os.path.join(memory, "files.txt")
    with open(listing, "w", encoding="utf-8") as f:
        f.write("\n".join(paths) + "\n")
    result = _run([
        "cppcheck", "--quiet", "--std=c11", "--enable=warning,performance,portability",
        "--inline-suppr", "--error-exitcode=1", *("--suppress=" + name for name in _CPPCHECK_OFF),
        "-I.", "-I" + tree.build, "-D_GNU_SOURCE", "-j", str(tree.jobs),
        f"--cppcheck-build-dir={memory}",
        "--template={file}:{line}:1: error: {message} [{id}]", f"--file-list={listing}",
    ], tree.root)
    yield from _messages(tree, "cppcheck", "tests/lint/tools.py", result)


def have(name):
    return shutil.which(name) is not None
