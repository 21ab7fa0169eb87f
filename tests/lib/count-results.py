#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Counts what a run of `meson test` passed and failed, test case by test case.

    count-results.py BUILD-FOLDER JUNIT-FOLDER EXIT-STATUS-OF-MESON
    count-results.py --failed BUILD-FOLDER

meson's own JUnit file knows the cases of the unit tests. pytest (tests/wire, tests/guest) writes a
file of its own into JUNIT-FOLDER for each test file, FOLDER-FILE.xml. Neither says everything: a test
that was ended for taking too long, or that crashed after its last case, is a failure only in
meson's testlog.json. So that one leads, and a bad test without a failed case counts as one.

Tests that were run again (`meson test --logbase again`, with JUNIT-FOLDER/again) count by their second
run, and are named: a machine that was busy for a moment is no fault of the agent's, but whoever
reads the report should see how often that is the excuse.

The last line is "N passed, N failed" (and ", N skipped"). The exit status is 1 if anything failed
or nothing was run. With --failed, the names of the failed tests are printed instead, a line each.
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


def unit_suites(build, log):
    """Test name, as in the log → its cases, for the tests that consist of several."""
    root = read_xml(build / "meson-logs" / f"{log}.junit.xml")
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


def read_log(build, log):
    path = build / "meson-logs" / f"{log}.json"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def is_bad(test):
    return test["result"] not in GOOD | SKIPPED


def plain_name(test):
    """What `meson test` takes: the log has "PROJECT:SUITE / NAME"."""
    return test["name"].rpartition(" / ")[2]


def count_run(build, folder, exit_status):
    total = Count()
    suites, suites_again = unit_suites(build, "testlog"), unit_suites(build, "again")
    again = {test["name"]: test for test in read_log(build, "again")}
    for test in read_log(build, "testlog"):
        second = again.get(test["name"])
        if second and is_bad(test):
            print(f"at the second try {'failed' if is_bad(second) else 'passed'}: {test['name']}")
            total.add(count_test(second, suites_again, folder / "again"))
        else:
            total.add(count_test(test, suites, folder))
    if exit_status != 0 and total.failed == 0:
        print(f"meson test ended with {exit_status} without naming a failed test")
        total.failed += 1
    return total


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--failed":
        for test in filter(is_bad, read_log(pathlib.Path(sys.argv[2]), "testlog")):
            print(plain_name(test))
        return
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    total = count_run(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]))
    print(total)
    sys.exit(1 if total.failed > 0 or total.passed == 0 else 0)


if __name__ == "__main__":
    main()
