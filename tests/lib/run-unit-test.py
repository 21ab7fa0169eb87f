#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs a cmocka test program and passes its TAP on.

    run-unit-test.py PROGRAM

cmocka 1.1 tells a test that was skipped as "not ok N # SKIP name", which whoever reads TAP takes for
a failure. It becomes "ok N # SKIP name".
"""

import os
import re
import signal
import subprocess
import sys

SKIPPED = re.compile(rb"^not (ok \d+ # SKIP\b)")


def main():
    with subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE) as program:
        for line in program.stdout:
            sys.stdout.buffer.write(SKIPPED.sub(rb"\1", line))
            sys.stdout.buffer.flush()
    if program.returncode < 0:  # by a signal: as if this had been the program
        signal.signal(-program.returncode, signal.SIG_DFL)
        os.kill(os.getpid(), -program.returncode)
    sys.exit(program.returncode)


if __name__ == "__main__":
    main()
