# SPDX-License-Identifier: MIT
"""Which agents a test runs against, how long it may take, and what is checked around it.

    BELLHOPD=build/src/bellhopd python3 -m pytest tests/wire

runs every test against bellhopd and, where qemu-ga is installed, against that too.
    --agent PATH         the bellhopd to test (or the environment variable BELLHOPD)
    --only KIND          only "bellhop" or only "reference"
    BELLHOP_REFERENCE    the reference's path, default /usr/sbin/qemu-ga; empty: none
    BELLHOP_TEST_SLOW    factor for all time limits
    WIRE_JUNIT_DIR       where a JUnit file is written, wire-<test file>.xml; without it that is
                         WIRE_BUILD_DIR, which meson sets
"""

import os
import shutil
import signal
import sys

import pytest
from _pytest.runner import runtestprotocol

sys.path.insert(0, os.path.dirname(__file__))

import differences  # noqa: E402
from agent import REFERENCE, Agent, become_subreaper, seconds  # noqa: E402

TEST_SECONDS = 60


def pytest_addoption(parser):
    parser.addoption("--agent", default=os.environ.get("BELLHOPD"),
                     help="the bellhopd to test")
    parser.addoption("--only", choices=["bellhop", "reference"],
                     help="test only this kind of agent")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    config.addinivalue_line("markers", "bellhop_only(difference): the reference cannot do this, "
                                       "see differences.py")
    config.addinivalue_line("markers", "time_limit(seconds): for the whole test, before scaling")
    directory = os.environ.get("WIRE_JUNIT_DIR") or os.environ.get("WIRE_BUILD_DIR")
    if directory and not config.option.xmlpath:
        stems = [os.path.splitext(os.path.basename(arg.split("::")[0]))[0] for arg in config.args]
        config.option.xmlpath = os.path.join(directory, "wire-%s.xml" % "-".join(stems))
    become_subreaper()
    # meson ends a test that takes too long with SIGTERM: clean up then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))


# --- agents --------------------------------------------------------------------------------------


def _kinds(config):
    kinds = ["bellhop"]
    if REFERENCE and os.access(REFERENCE, os.X_OK):
        kinds.append("reference")
    if config.option.only:
        kinds = [kind for kind in kinds if kind == config.option.only]
    return kinds


def pytest_generate_tests(metafunc):
    if "kind" not in metafunc.fixturenames:
        return
    kinds = _kinds(metafunc.config)
    marker = metafunc.definition.get_closest_marker("bellhop_only")
    if marker:
        differences.current_file = _stem(metafunc.definition)
        differences.ask(marker.args[0], "reference")
        kinds = [kind for kind in kinds if kind == "bellhop"]
    metafunc.parametrize("kind", kinds, scope="session")


def _binary(config, kind):
    if kind == "reference":
        return REFERENCE
    binary = config.option.agent or shutil.which("bellhopd")
    if not binary or not os.access(binary, os.X_OK):
        pytest.fail("no bellhopd to test: set BELLHOPD or give --agent (have %r)" % binary)
    return os.path.abspath(binary)


@pytest.fixture
def start_agent(request, kind):
    """A function that starts an agent of the test's kind: start_agent(args=[...], ...), or one of a
    class that is derived from Agent. Its differs() answers as the agents' does."""
    agents = []

    def start(agent_class=Agent, **options):
        agent = agent_class(kind, _binary(request.config, kind), **options)
        agents.append(agent)
        return agent.__enter__()

    start.differs = lambda name: differences.ask(name, kind)
    yield start
    errors = []
    for agent in reversed(agents):
        try:
            agent.__exit__(None, None, None)
        except AssertionError as error:
            errors.append(str(error))
    if errors:
        pytest.fail("\n".join(errors))


@pytest.fixture
def agent(start_agent):
    """An agent of the test's own, with its defaults."""
    return start_agent()


@pytest.fixture
def channel(agent):
    """A connection, in sync, to an agent of the test's own."""
    return agent.connect()


@pytest.fixture(scope="module")
def shared_agent(request, kind):
    """An agent that all tests of the file share: for tests that leave nothing behind."""
    with Agent(kind, _binary(request.config, kind)) as agent:
        yield agent


@pytest.fixture
def shared(shared_agent):
    """A connection, in sync, to the agent that the file's tests share."""
    assert shared_agent.process.poll() is None, "the agent died: " + shared_agent.log()[-4000:]
    with shared_agent.connect() as channel:
        yield channel


REFERENCE_TRIES = 3


def pytest_runtest_protocol(item, nextitem):
    """The reference is not what is tested, and it is not always the same: it may not hear its first
    SIGTERM, or be slow under load. What is wrong with a test is wrong each time."""
    if getattr(item, "callspec", None) is None or item.callspec.params.get("kind") != "reference":
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for attempt in range(REFERENCE_TRIES):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if not any(report.failed for report in reports):
            break
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """The reference has faults that we know of (it ends itself when clients come and go quickly). A
    test that it does not live through says nothing about bellhop: skipped, and said."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and any(agent.is_reference and agent.has_fallen() for agent in Agent.started):
        report.outcome = "skipped"
        report.longrepr = (str(item.fspath), item.location[1], "the reference ended by itself")


# --- around a test -------------------------------------------------------------------------------


def _stem(item):
    return os.path.splitext(os.path.basename(str(item.fspath)))[0]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """No test waits for ever."""
    marker = item.get_closest_marker("time_limit")
    limit = seconds(marker.args[0] if marker else TEST_SECONDS)

    def too_long(*_):
        raise TimeoutError("the test took longer than %.0f s" % limit)

    differences.current_file = _stem(item)
    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def pytest_collection_modifyitems(config, items):
    config.wire_files = sorted({_stem(item) for item in items})


def pytest_deselected(items):
    if items:
        items[0].config.wire_partial = True


def pytest_sessionfinish(session, exitstatus):
    """A difference that no test looks at is an error, as it may have become untrue."""
    config = session.config
    whole = (exitstatus == 0 and not getattr(config, "wire_partial", False)
             and not any("::" in arg for arg in config.args) and not config.option.only
             and not config.option.collectonly and len(_kinds(config)) == 2)
    if whole:
        unused = differences.never_asked(config.wire_files)
        if unused:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            config.wire_unused = unused


def pytest_terminal_summary(terminalreporter, config):
    for name in getattr(config, "wire_unused", []):
        terminalreporter.write_line("ERROR: listed in differences.py but not asked for: " + name,
                                    red=True)
