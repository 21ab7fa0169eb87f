# SPDX-License-Identifier: MIT
"""What the checks of this folder share: the project's files, and how a check ends."""

import pathlib
import subprocess
import sys

GENERATED = ("build", ".git", ".cache", ".pytest_cache", "__pycache__")


def is_generated(path):
    return any(part in GENERATED or part.startswith("build-") for part in path.parts)


def git_files(root):
    """What git has or would add; None where there is no git or no repository."""
    if not (root / ".git").exists():
        return None
    try:
        listing = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", str(root), "ls-files", "-z", "--cached",
             "--others", "--exclude-standard"],
            stdout=subprocess.PIPE, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return [pathlib.Path(name) for name in listing.stdout.decode().split("\0") if name]


def project_files(root):
    """The project's files below `root`, relative."""
    root = pathlib.Path(root)
    names = git_files(root)
    if names is None:
        names = [path.relative_to(root) for path in root.rglob("*")]
    return sorted(name for name in names if not is_generated(name) and (root / name).is_file())


def read_lines(root, name):
    """The file's lines without their ends, or None if it is no text."""
    data = (pathlib.Path(root) / name).read_bytes()
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        return None


def main(check):
    """Runs `check(root)`, which yields complaints, on the folder that the command line names."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} PROJECT-FOLDER")
    complaints = list(check(pathlib.Path(sys.argv[1])))
    for complaint in complaints:
        print(complaint)
    sys.exit(1 if complaints else 0)
