#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The outer form of files: licence line, line ends, and clang-format's opinion where there is one."""

import os
import shutil
import subprocess

import lint

SPDX = "SPDX-License-Identifier: MIT"
C_FIRST_LINE = f"/* {SPDX} */"

# Kept byte for byte as they are: what a test feeds to the agent, and the licence's own text.
VERBATIM_FOLDERS = ("tests/fuzz/corpus/", "tests/data/")
VERBATIM_SUFFIXES = {".jsonl", ".patch"}


def is_verbatim(name):
    return str(name).startswith(VERBATIM_FOLDERS) or name.suffix in VERBATIM_SUFFIXES


def check_licence(name, lines):
    if name.suffix in (".c", ".h"):
        if lines[0] != C_FIRST_LINE:
            yield f'{name}:1: the first line is "{C_FIRST_LINE}"'
    elif name.suffix in (".py", ".sh") or lines[0].startswith("#!"):
        if f"# {SPDX}" not in lines[:2]:
            yield f'{name}:1: "# {SPDX}" is missing'


def check_lines(name, lines):
    for number, line in enumerate(lines, 1):
        if line != line.rstrip():
            yield f"{name}:{number}: white space at the end of the line"
        if "\t" in line and name.suffix in (".c", ".h", ".py"):
            yield f"{name}:{number}: a tab"
    if lines[-1] != "":
        yield f"{name}:{len(lines)}: no newline at the end"
    elif len(lines) > 1 and lines[-2] == "":
        yield f"{name}:{len(lines) - 1}: an empty line at the end"


def check_format(root, names):
    tool = os.environ.get("CLANG_FORMAT", "clang-format")
    if not names or shutil.which(tool) is None:
        return
    run = subprocess.run(
        [tool, "--dry-run", "-Werror", "-ferror-limit=1", *map(str, names)],
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    for line in run.stdout.splitlines():
        if ": error: " in line or ": warning: " in line:
            yield f"{line} (./dev format)"
    if run.returncode != 0 and not run.stdout:
        yield f"{tool} ended with {run.returncode}"


def check(root):
    sources = []
    for name in lint.project_files(root):
        lines = None if is_verbatim(name) else lint.read_lines(root, name)
        if lines is None or lines == [""]:
            continue
        yield from check_licence(name, lines)
        yield from check_lines(name, lines)
        if name.suffix == ".c":  # headers are laid out by hand: it tears their macros apart
            sources.append(name)
    yield from check_format(root, sources)


if __name__ == "__main__":
    lint.main(check)
