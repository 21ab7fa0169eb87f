#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""No path of somebody's machine in the repository: it means nothing to anybody else."""

import re

import lint

# Put together from pieces, so that this file does not forbid itself.
MACHINE_PATHS = [
    re.compile(r"(?<![\w.~-])/" + r"work/"),
    re.compile(r"(?<![\w.~/-])(\.\./)*" + r"shared" + r"/"),
]


def check(root):
    for name in lint.project_files(root):
        for number, line in enumerate(lint.read_lines(root, name) or [], 1):
            for pattern in MACHINE_PATHS:
                match = pattern.search(line)
                if match:
                    yield f"{name}:{number}: '{match.group(0)}' names a path of one machine"


if __name__ == "__main__":
    lint.main(check)
