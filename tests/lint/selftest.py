#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Shows that each check of this folder complains about what it is there for, and where."""

import contextlib
import importlib.util
import io
import json
import os
import pathlib
import stat
import tempfile
import unittest

HERE = pathlib.Path(__file__).parent
HEADER = "/* SPDX-License-Identifier: MIT */\n"


def load(name, folder=HERE):
    spec = importlib.util.spec_from_file_location(name.replace("-", "_"), folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class CheckTest(unittest.TestCase):
    """A project of a few files, made for one test."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def complaints(self, check):
        return list(load(check).check(self.root))

    def assert_complaint(self, check, *words):
        found = self.complaints(check)
        self.assertEqual(len(found), 1, found)
        for word in words:
            self.assertIn(word, found[0])


class Includes(CheckTest):
    check = "check-includes"

    def setUp(self):
        super().setUp()
        for header in ("base/log.h", "io/json.h", "io/json-writer.h", "io/session.h", "jobs/pool.h",
                       "cmds/command.h", "security/gate.h", "client/agent.h"):
            self.write(f"src/{header}", HEADER)

    def assert_refused(self, path, include, *words):
        self.write(f"src/{path}", f"{HEADER}\n#include {include}\n")
        self.assert_complaint(self.check, f"src/{path}:3: ", *words)

    def test_good(self):
        self.write("src/main.c", '#include "cmds/command.h"\n#include "security/gate.h"\n'
                                 "#include <event2/event.h>\n")
        self.write("src/cmds/command.c", '#include "cmds/command.h"\n#include <stdio.h>\n'
                                         '#include "io/json-writer.h"\n#include "jobs/pool.h"\n')
        self.write("src/jobs/pool.c", '#include "jobs/pool.h"\n#include <event2/event.h>\n'
                                      '#include "io/session.h"\n#include "security/gate.h"\n')
        self.write("src/io/json.c", '#include "io/json.h"\n#include <yajl/yajl_parse.h>\n')
        self.write("src/security/gate.c", '#include "security/gate.h"\n#include "base/log.h"\n')
        self.write("src/client/agent.c", '#include "client/agent.h"\n#include "io/json.h"\n')
        self.assertEqual(self.complaints(self.check), [])

    def test_up_the_layers(self):
        for path, header in (("base/x.c", "io/json.h"), ("io/x.c", "jobs/pool.h"),
                             ("jobs/x.c", "cmds/command.h"), ("security/x.c", "io/json.h"),
                             ("io/x.c", "security/gate.h"), ("security/x.c", "jobs/pool.h"), ("client/x.c", "jobs/pool.h"),
                             ("cmds/x.c", "client/agent.h"), ("main.c", "client/agent.h")):
            with self.subTest(path=path, header=header):
                self.assert_refused(path, f'"{header}"', header, "may not use")
                (self.root / "src" / path).unlink()

    def test_session_in_a_command(self):
        self.assert_refused("cmds/x.c", '"io/session.h"', "may use only")

    def test_session_in_the_dispatcher(self):
        self.write("src/cmds/dispatch.c", '#include "io/session.h"\n')
        self.assertEqual(self.complaints(self.check), [])

    def test_libevent_in_a_command(self):
        self.assert_refused("cmds/x.c", "<event2/event.h>", "libevent stays")

    def test_old_libevent_header(self):
        self.assert_refused("base/x.c", "<evutil.h>", "libevent stays")

    def test_yajl_outside_json(self):
        self.assert_refused("io/x.c", "<yajl/yajl_gen.h>", "yajl stays")

    def test_yajl_in_a_header(self):
        self.assert_refused("io/x.h", "<yajl/yajl_tree.h>", "yajl stays")

    def test_spacing_does_not_hide(self):
        self.write("src/base/x.c", '  #  include   "io/json.h"\n')
        self.assert_complaint(self.check, "src/base/x.c:1: ", "may not use")

    def test_relative_include(self):
        self.assert_refused("base/x.c", '"log.h"', "not below src/")

    def test_included_source(self):
        self.write("src/base/y.c", HEADER)
        self.assert_refused("base/x.c", '"base/y.c"', "no header")

    def test_own_header_first(self):
        self.write("src/io/json.c", f'{HEADER}#include <stdio.h>\n#include "io/json.h"\n')
        self.assert_complaint(self.check, "src/io/json.c:2: ", "comes first")

    def test_unknown_folder(self):
        self.write("src/misc/x.c", HEADER)
        self.assert_complaint(self.check, "src/misc/x.c:1: ", "no layer")


class NoSources(CheckTest):
    def test_empty_project(self):
        self.assert_complaint("check-includes", "no sources")


class Sizes(CheckTest):
    check = "check-sizes"

    @staticmethod
    def function(length, signature="static int work(void)"):
        return f"{signature}\n{{\n" + "    step();\n" * (length - 2) + "}\n"

    def test_at_the_limit(self):
        self.write("src/a.c", self.function(60))
        self.write("src/b.c", "int x;\n" * 600)
        self.assertEqual(self.complaints(self.check), [])

    def test_long_file(self):
        self.write("src/a.h", "int x;\n" * 601)
        self.assert_complaint(self.check, "src/a.h:1: ", "601 lines")

    def test_long_test(self):
        self.write("tests/wire/test_a.py", "x = 1\n" * 900)
        self.write("tests/wire/test_b.py", "x = 1\n" * 901)
        self.assert_complaint(self.check, "tests/wire/test_b.py:1: ", "901 lines")

    def test_long_function(self):
        self.write("src/a.c", HEADER + "\n" + self.function(61))
        self.assert_complaint(self.check, "src/a.c:3: src/a.c:work has 61 lines")

    def test_signature_over_lines(self):
        signature = "static struct thing *\nthing_make(int one,\n           int two)"
        self.write("src/a.c", f"{HEADER}int x;\n\n" + self.function(61, signature))
        self.assert_complaint(self.check, "src/a.c:4: src/a.c:thing_make has 61 lines")

    def test_table_is_no_function(self):
        self.write("src/a.c", "static const int rows[] = {\n" + "    1,\n" * 80 + "};\n")
        self.assertEqual(self.complaints(self.check), [])

    def exceptions(self, text):
        self.write("tests/lint/size-exceptions.txt", "# comment\n" + text)

    def test_exception(self):
        self.write("src/a.c", self.function(70))
        self.exceptions("src/a.c:work 70\n")
        self.assertEqual(self.complaints(self.check), [])

    def test_exception_does_not_grow(self):
        self.write("src/a.c", self.function(71))
        self.exceptions("src/a.c:work 70\n")
        self.assert_complaint(self.check, "src/a.c:1: ", "grew from 70 to 71")

    def test_exception_shrinks(self):
        self.write("src/a.c", self.function(65))
        self.exceptions("src/a.c:work 70\n")
        self.assert_complaint(self.check, "size-exceptions.txt:2: ", "65 lines now")

    def test_exception_not_needed(self):
        self.write("src/a.c", self.function(60))
        self.exceptions("src/a.c:work 70\n")
        self.assert_complaint(self.check, "size-exceptions.txt:2: ", "take it off")

    def test_exception_gone(self):
        self.exceptions("src/b.c 700\n")
        self.assert_complaint(self.check, "size-exceptions.txt:2: ", "is gone")


class Style(CheckTest):
    check = "check-style"

    def setUp(self):
        super().setUp()
        self.addCleanup(os.environ.pop, "CLANG_FORMAT", None)
        os.environ["CLANG_FORMAT"] = "no-such-tool"

    def test_good(self):
        self.write("src/a.c", HEADER + "int x;\n")
        self.write("dev", "#!/bin/bash\n# SPDX-License-Identifier: MIT\n")
        self.write("tests/fuzz/corpus/odd", "odd \n\n\n")
        self.write("tests/wire/__init__.py", "")
        self.assertEqual(self.complaints(self.check), [])

    def test_no_licence_in_c(self):
        self.write("src/a.c", "int x;\n")
        self.assert_complaint(self.check, "src/a.c:1: ", "SPDX")

    def test_no_licence_in_script(self):
        self.write("dev", "#!/bin/bash\n")
        self.assert_complaint(self.check, "dev:1: ", "SPDX")

    def test_trailing_space(self):
        self.write("README.md", "one\ntwo \n")
        self.assert_complaint(self.check, "README.md:2: ", "white space")

    def test_carriage_return(self):
        self.write("README.md", "one\r\n")
        self.assert_complaint(self.check, "README.md:1: ", "white space")

    def test_tab(self):
        self.write("src/a.c", HEADER + "\tint x;\n")
        self.assert_complaint(self.check, "src/a.c:2: ", "tab")

    def test_no_last_newline(self):
        self.write("README.md", "one")
        self.assert_complaint(self.check, "README.md:1: ", "no newline")

    def test_empty_last_line(self):
        self.write("README.md", "one\n\n")
        self.assert_complaint(self.check, "README.md:2: ", "empty line")

    def tool(self, text):
        path = self.write("build/clang-format", "#!/bin/sh\n" + text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        os.environ["CLANG_FORMAT"] = str(path)
        self.write("src/a.c", HEADER)

    def test_format(self):
        self.tool('echo "src/a.c:1:2: error: code should be clang-formatted"; exit 1\n')
        self.assert_complaint(self.check, "src/a.c:1:2: ")

    def test_format_tool_fails(self):
        self.tool("exit 3\n")
        self.assert_complaint(self.check, "ended with 3")


class Words(CheckTest):
    check = "check-words"

    def test_good(self):
        self.write("README.md", "see network/x, /usr/share/doc, a_shared-thing/x and /proc/self\n")
        self.assertEqual(self.complaints(self.check), [])

    def test_machine_paths(self):
        for text in ("/" + "work/main", "see ../" + "shared" + "/x", "'" + "shared" + "/spec'"):
            with self.subTest(text=text):
                self.write("docs/page.md", f"fine\n{text}\n")
                self.assert_complaint(self.check, "docs/page.md:2: ")


class Files(CheckTest):
    def test_what_is_built_is_not_checked(self):
        lint = load("lint")
        for name in ("src/a.c", "build/b.c", "build-x/c.c", ".cache/d.c"):
            self.write(name, HEADER)
        self.assertEqual([str(name) for name in lint.project_files(self.root)], ["src/a.c"])

    def test_without_git(self):
        lint = load("lint")
        self.write("src/a.c", HEADER)
        self.write(".git/config", "")
        path = os.environ["PATH"]
        self.addCleanup(os.environ.update, PATH=path)
        for where in (path, str(self.root)):  # a broken repository, and no git at all
            os.environ["PATH"] = where
            self.assertEqual([str(name) for name in lint.project_files(self.root)], ["src/a.c"])

    def test_binary_is_no_text(self):
        lint = load("lint")
        (self.root / "x").write_bytes(b"a\0b")
        (self.root / "y").write_bytes(b"a\xffb")
        self.assertIsNone(lint.read_lines(self.root, "x"))
        self.assertIsNone(lint.read_lines(self.root, "y"))


class Count(CheckTest):
    """The line that ./dev test ends with."""

    def setUp(self):
        super().setUp()
        self.junit = self.root / "junit"
        self.junit.mkdir()
        self.tests = []
        self.suites = []

    def add_test(self, name, result="OK", command=(), cases=None):
        self.tests.append({"name": f"bellhop:unit / {name}", "result": result,
                           "command": list(command)})
        if cases is not None:
            self.suites.append(f'<testsuite name="bellhop.bellhop:unit / {name}">'
                               f"{self.cases(cases)}</testsuite>")

    @staticmethod
    def cases(results):
        return "".join(f'<testcase name="x">{"" if result == "ok" else f"<{result}/>"}</testcase>'
                       for result in results)

    def pytest_file(self, stem, results):
        self.write(f"junit/wire-{stem}.xml", "<testsuites><testsuite>" + self.cases(results) +
                   "</testsuite></testsuites>")

    def count(self, exit_status=0):
        if self.suites:
            self.write("meson-logs/testlog.junit.xml",
                       f"<testsuites>{''.join(self.suites)}</testsuites>")
        self.write("meson-logs/testlog.json", "".join(json.dumps(test) + "\n"
                                                      for test in self.tests))
        module = load("count-results", HERE.parent / "lib")
        with contextlib.redirect_stdout(io.StringIO()):
            return str(module.count_run(self.root, self.junit, exit_status))

    def test_cases(self):
        self.add_test("a", cases=["ok", "ok", "skipped"])
        self.add_test("b", "FAIL", cases=["ok", "failure", "error"])
        self.add_test("c")
        self.add_test("d", "SKIP")
        self.assertEqual(self.count(1), "4 passed, 2 failed, 2 skipped")

    def test_pytest(self):
        self.add_test("wire-a", command=["python3", "-m", "pytest", "/x/wire/test_a.py"])
        self.pytest_file("test_a", ["ok", "ok", "skipped"])
        self.assertEqual(self.count(), "2 passed, 0 failed, 1 skipped")

    def test_pytest_without_a_file(self):
        self.add_test("wire-a", "ERROR", command=["python3", "-m", "pytest", "/x/wire/test_a.py"])
        self.assertEqual(self.count(1), "0 passed, 1 failed")

    def test_pytest_that_fails_after_its_cases(self):
        self.add_test("wire-a", "FAIL", command=["python3", "-m", "pytest", "/x/wire/test_a.py"])
        self.pytest_file("test_a", ["ok"])
        self.assertEqual(self.count(1), "1 passed, 1 failed")

    def test_crash_after_the_last_case(self):
        self.add_test("a", "ERROR", cases=["ok", "ok"])
        self.assertEqual(self.count(1), "2 passed, 1 failed")

    def test_timeout(self):
        self.add_test("a", "TIMEOUT")
        self.assertEqual(self.count(1), "0 passed, 1 failed")

    def run_again(self, name, result, cases):
        self.write("meson-logs/again.json", json.dumps({
            "name": f"bellhop:unit / {name}", "result": result, "command": []}) + "\n")
        self.write("meson-logs/again.junit.xml",
                   f'<testsuites><testsuite name="bellhop.bellhop:unit / {name}">'
                   f"{self.cases(cases)}</testsuite></testsuites>")

    def test_passed_at_the_second_try(self):
        self.add_test("a", cases=["ok"])
        self.add_test("b", "FAIL", cases=["ok", "failure"])
        self.run_again("b", "OK", ["ok", "ok"])
        self.assertEqual(self.count(), "3 passed, 0 failed")

    def test_failed_twice(self):
        self.add_test("a", cases=["ok"])
        self.add_test("b", "FAIL", cases=["failure", "failure"])
        self.run_again("b", "FAIL", ["ok", "failure"])
        self.assertEqual(self.count(1), "2 passed, 1 failed")

    def test_names_of_the_failed(self):
        self.add_test("a")
        self.add_test("b", "TIMEOUT")
        self.add_test("c", "SKIP")
        self.count(1)
        module = load("count-results", HERE.parent / "lib")
        failed = filter(module.is_bad, module.read_log(self.root, "testlog"))
        self.assertEqual([module.plain_name(test) for test in failed], ["b"])

    def test_meson_fails_otherwise(self):
        self.add_test("a")
        self.assertEqual(self.count(2), "1 passed, 1 failed")

    def test_nothing(self):
        self.assertEqual(self.count(), "0 passed, 0 failed")


if __name__ == "__main__":
    unittest.main(verbosity=2)
