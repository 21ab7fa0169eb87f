#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Files and functions that grow too long are two things.

What is longer than it should be stands in size-exceptions.txt with its length. The list can only
shrink: an entry that is not needed any more, or larger than needed, is an error too.
"""

import re

import lint

FILE_MAX = 600
TEST_FILE_MAX = 900  # a list of cases grows without becoming two things
FUNCTION_MAX = 60

COUNTED = {".c", ".h", ".py", ".sh"}
COUNTED_NAMES = {"dev", ".ci/run"}
EXCEPTIONS = "tests/lint/size-exceptions.txt"

NAME = re.compile(r"(\w+)\s*\(")


def is_counted(name):
    return name.suffix in COUNTED or str(name) in COUNTED_NAMES


def signature_start(lines, brace):
    """The first line of the signature whose body opens in line `brace` (both from 0)."""
    start = brace
    while start > 0 and not re.match(r"\s*$|[}#/]|.*(;|\*/)$", lines[start - 1]):
        start -= 1
    return start


def functions(lines):
    """(name, first line from 1, length) of each C function; its braces stand in column 0."""
    brace = None
    for at, line in enumerate(lines):
        if line.startswith("{"):
            brace = at
        elif line.startswith("}") and brace is not None:
            first = signature_start(lines, brace)
            match = NAME.search(" ".join(lines[first:brace]))
            if match:
                yield match.group(1), first + 1, at - brace + 1
            brace = None


def lengths(root):
    """(what, where, length, limit) of everything that is counted."""
    for name in lint.project_files(root):
        lines = lint.read_lines(root, name) if is_counted(name) else None
        if lines is None:
            continue
        limit = TEST_FILE_MAX if name.parts[0] == "tests" else FILE_MAX
        yield str(name), f"{name}:1", len(lines) - (lines[-1] == ""), limit
        if name.suffix in (".c", ".h"):
            for function, line, length in functions(lines):
                yield f"{name}:{function}", f"{name}:{line}", length, FUNCTION_MAX


def read_exceptions(root):
    exceptions = {}
    path = root / EXCEPTIONS
    lines = path.read_text().splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            what, length = line.split()
            exceptions[what] = (int(length), f"{EXCEPTIONS}:{number}")
    return exceptions


def check(root):
    exceptions = read_exceptions(root)
    for what, where, length, limit in lengths(root):
        allowed, listed = exceptions.pop(what, (None, None))
        if length <= limit and allowed is not None:
            yield f"{listed}: {what} has {length} lines now: take it off the list"
        elif length > limit and allowed is None:
            yield f"{where}: {what} has {length} lines, and {limit} is the limit"
        elif allowed is not None and length > allowed:
            yield f"{where}: {what} grew from {allowed} to {length} lines, and {limit} is the limit"
        elif allowed is not None and length < allowed:
            yield f"{listed}: {what} has {length} lines now: say so"
    for what, (_, listed) in exceptions.items():
        yield f"{listed}: {what} is gone: take it off the list"


if __name__ == "__main__":
    lint.main(check)
