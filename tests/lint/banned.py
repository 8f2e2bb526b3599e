"""banned: calls that have a better or a safer form here, or that only one folder may make.

What the simulator must control (time, files, sockets, threads, randomness) is reached through the env
of node/runtime; the rest is C's classic traps.
"""

import re
from dataclasses import dataclass

from source import Finding

_EVERYWHERE = ("",)
_PRODUCT = ("node/", "regions/", "lua/", "cli/")
_NODE = ("node/", "regions/", "lua/")  # What runs on a shard, simulated or not.
# The shell of a process: reads arguments and files before any shard runs, starts their threads, ends
# it. None of it runs in the simulator.
_SHELL = ("node/server/main.c", "node/server/process.c", "cli/main.c")


@dataclass
class Ban:
    names: str
    inside: tuple
    instead: str
    may: tuple = ()  # Paths that may after all.

    def applies(self, path):
        return path.startswith(self.inside) and not (self.may and path.startswith(self.may))


CALLS = (
    Ban("gets strcpy strcat strncpy strncat sprintf vsprintf strtok alloca tmpnam mktemp",
        _EVERYWHERE, "unbounded or fragile: arena_printf(), snprintf(), memcpy() with a size"),
    Ban("atoi atol atoll atof", _PRODUCT, "silent about bad input: parse and check"),
    Ban("rand srand random srandom drand48 arc4random getrandom getentropy", _PRODUCT,
        "randomness comes from env, or from a seeded struct rng", ("node/runtime/", "cli/")),
    Ban("localtime localtime_r gmtime gmtime_r ctime asctime strftime mktime setlocale", _NODE,
        "depends on the machine: dates have their own code in node/sql/types"),
    Ban("strerror system popen", _PRODUCT, "not safe with threads, or runs a shell",
        ("node/runtime/", "cli/", *_SHELL)),
    Ban("clock_gettime gettimeofday time clock nanosleep usleep sleep timerfd_create", _NODE,
        "time comes from env", ("node/runtime/",)),
    Ban("socket connect accept accept4 bind listen send recv sendto recvfrom sendmsg recvmsg poll "
        "ppoll select epoll_create1 epoll_wait getaddrinfo", _NODE,
        "the network is reached through env", ("node/runtime/",)),
    Ban("open openat creat fopen fdopen freopen opendir read write pread pwrite readv writev fsync "
        "fdatasync unlink rename mkdir rmdir stat fstat lstat truncate ftruncate mmap munmap "
        "mprotect", _NODE, "files and memory maps are reached through env",
        ("node/runtime/", *_SHELL)),
    Ban("fork vfork execv execve execvp execl execlp kill raise signal sigaction", _NODE,
        "processes and signals belong to runtime", ("node/runtime/", *_SHELL)),
    Ban("assert abort exit _exit quick_exit", _PRODUCT,
        "INVARIANT() stops the process; everything else is a status",
        ("node/base/invariant.c", "node/runtime/", *_SHELL)),
    Ban("printf puts putchar fputs fprintf vfprintf vprintf perror", _NODE,
        "LOG_INFO() and its kin", ("node/base/invariant.c", *_SHELL)),
)

# Regular expressions of words rather than calls.
WORDS = (
    Ban(r"__(?:DATE|TIME|TIMESTAMP)__", _EVERYWHERE, "builds must repeat byte for byte"),
    Ban(r"(?:pthread|mtx|thrd|cnd|sem)_[a-z]\w*", _NODE,
        "threads and locks stand in node/runtime only", ("node/runtime/", *_SHELL)),
    Ban(r"_Atomic|atomic_[a-z]\w*|__(?:atomic|sync)_\w+", _NODE,
        "state belongs to one shard; atomics stand in node/runtime only", ("node/runtime/",)),
)


def _find(source, ban, pattern, suffix):
    for m in re.finditer(pattern, source.code):
        # Behind . or -> it is a field, whatever its name.
        if not source.code[:m.start()].rstrip().endswith((".", "->")):
            yield Finding(source.path, source.line_of(m.start()), "banned",
                          f"{m.group(1)}{suffix}: {ban.instead}")


def check(tree):
    for source in tree.sources():
        for ban in CALLS:
            if ban.applies(source.path):
                names = "|".join(ban.names.split())
                yield from _find(source, ban, rf"\b({names})\s*\(", "()")
        for ban in WORDS:
            if ban.applies(source.path):
                yield from _find(source, ban, rf"\b({ban.names})\b", "")
