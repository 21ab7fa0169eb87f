#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Counts what a run of `meson test` passed and failed, test case by test case.

    count-results.py BUILD-FOLDER JUNIT-FOLDER EXIT-STATUS-OF-MESON

meson's own JUnit file knows the cases of the unit tests. pytest (tests/wire, tests/guest) writes a
file of its own into JUNIT-FOLDER for each test file, FOLDER-FILE.xml. Neither says everything: a test
that was ended for taking too long, or that crashed after its last case, is a failure only in
meson's testlog.json. So that one leads, and a bad test without a failed case counts as one.

The last line is "N passed, N failed" (and ", N skipped"). The exit status is 1 if anything failed
or nothing was run.
"""

import json
import pathlib
import sys
import xml.etree.ElementTree as ElementTree

GOOD = {"OK", "EXPECTEDFAIL"}
SKIPPED = {"SKIP"}


class Count:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self):
        text = f"{self.passed} passed, {self.failed} failed"
        return f"{text}, {self.skipped} skipped" if self.skipped else text


def count_cases(elements):
    count = Count()
    for case in elements:
        if case.find("failure") is not None or case.find("error") is not None:
            count.failed += 1
        elif case.find("skipped") is not None:
            count.skipped += 1
        else:
            count.passed += 1
    return count


def read_xml(path):
    try:
        return ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):
        return None


def unit_suites(build):
    """Test name, as in the log → its cases, for the tests that consist of several."""
    root = read_xml(build / "meson-logs" / "testlog.junit.xml")
    suites = {}
    for suite in root.iter("testsuite") if root is not None else []:
        _, dot, name = suite.get("name", "").partition(".")
        if dot:
            suites[name] = list(suite.iter("testcase"))
    return suites


def pytest_cases(test, folder):
    """The cases of a test that is a run of pytest, None for another or if it left no file."""
    cases = None
    for word in test.get("command", []):
        path = pathlib.Path(word.split("::")[0])
        if path.suffix != ".py":
            continue
        root = read_xml(folder / f"{path.parent.name}-{path.stem}.xml")
        if root is not None:
            cases = (cases or []) + list(root.iter("testcase"))
    return cases


def count_test(test, suites, folder):
    cases = pytest_cases(test, folder)
    if cases is None:
        cases = suites.get(test["name"])
    count = count_cases(cases or [])
    if test["result"] in GOOD:
        if cases is None:
            count.passed += 1
    elif test["result"] in SKIPPED:
        if not cases:
            count.skipped += 1
    elif count.failed == 0:
        count.failed += 1
    return count


def count_run(build, folder, exit_status):
    total = Count()
    suites = unit_suites(build)
    log = build / "meson-logs" / "testlog.json"
    for line in log.read_text().splitlines() if log.exists() else []:
        total.add(count_test(json.loads(line), suites, folder))
    if exit_status != 0 and total.failed == 0:
        print(f"meson test ended with {exit_status} without naming a failed test")
        total.failed += 1
    return total


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    total = count_run(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]))
    print(total)
    sys.exit(1 if total.failed > 0 or total.passed == 0 else 0)


if __name__ == "__main__":
    main()
