# SPDX-License-Identifier: MIT
"""Machines for the tests, and what is shown when a test fails.

    BELLHOPD=build/src/bellhopd python3 -m pytest tests/guest

    --agent PATH         the bellhopd to test (or the environment variable BELLHOPD)
    BELLHOP_GUEST_ACCEL  QEMU's accelerator, default tcg
    BELLHOP_GUEST_KERNEL another kernel image than the newest cloud kernel in /boot
    BELLHOP_TEST_SLOW    factor for all time limits
    WIRE_JUNIT_DIR       where a JUnit file is written, guest-<test file>.xml

A test asks for what it needs by its arguments:
    vm        a machine that the tests of the session share, with no agent running; options for it
              are VmOptions' defaults, or the test module's own VM_OPTIONS
    agent     the same with bellhopd serving its virtio port; the argument is the machine
    any_agent the same twice: with bellhopd and, where it is installed, with qemu-ga as the reference
    fresh_vm  a function: fresh_vm(root_disk=True, ...) boots a machine of the test's own
"""
import contextlib
import os
import shutil
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

import vm as machine  # noqa: E402
from host import seconds  # noqa: E402

TEST_SECONDS = 120
SHARED = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption("--agent", default=os.environ.get("BELLHOPD"), help="the bellhopd to test")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    config.addinivalue_line("markers", "time_limit(seconds): before scaling")
    directory = os.environ.get("WIRE_JUNIT_DIR")
    if directory and not config.option.xmlpath:
        stems = [os.path.splitext(os.path.basename(arg.split("::")[0]))[0] for arg in config.args]
        config.option.xmlpath = os.path.join(directory, "guest-%s.xml" % "-".join(stems))
    # meson ends a test that takes too long with SIGTERM: clean up then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    config.stash[SHARED] = {}


def pytest_sessionstart(session):
    reason = machine.missing()
    if reason:
        pytest.exit("no guest can be run here: " + reason, returncode=77)


def pytest_sessionfinish(session):
    for guest in session.config.stash[SHARED].values():
        guest.stop()


def pytest_generate_tests(metafunc):
    if "any_agent" in metafunc.fixturenames:
        programs = ["bellhopd", "qemu-ga"] if machine.reference() else ["bellhopd"]
        metafunc.parametrize("any_agent", programs, indirect=True)


def agent_program(config):
    """The path of the bellhopd to test."""
    program = config.option.agent or shutil.which("bellhopd")
    if not program or not os.access(program, os.X_OK):
        pytest.fail("no bellhopd to test: set BELLHOPD or give --agent (have %r)" % program)
    return program


def _shared_vm(request):
    """The machine with the module's options: booted once, and again if a test left it broken."""
    guests = request.config.stash[SHARED]
    options = getattr(request.module, "VM_OPTIONS", machine.VmOptions())
    guest = guests.get(options)
    if guest and not guest.is_healthy():
        guest.stop()
        guest = None
    if not guest:
        for other in guests.values():  # one at a time, tests are no place to run out of memory
            other.stop()
        guests.clear()
        guest = guests[options] = machine.Vm(options, agent_program(request.config))
        guest.__enter__()
    return guest


@pytest.fixture
def vm(request):
    guest = _shared_vm(request)
    guest.reset()
    request.node.guests = [guest]
    return guest


@pytest.fixture
def agent(vm):
    vm.start_agent()
    return vm


@pytest.fixture
def any_agent(request, vm):
    vm.start_agent(program=request.param)
    return vm


@pytest.fixture
def fresh_vm(request):
    guests = []
    request.node.guests = guests

    def boot(**options):
        guest = machine.Vm(machine.VmOptions(**options), agent_program(request.config))
        guests.append(guest)
        return guest.__enter__()

    yield boot
    for guest in guests:
        guest.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows the console and the agent's log of a failed test's machines, while they still run."""
    outcome = yield
    if call.excinfo and not call.excinfo.errisinstance(pytest.skip.Exception):
        for guest in getattr(item, "guests", []):
            try:
                report = guest.report()
            except (AssertionError, OSError, EOFError, ValueError) as error:
                report = "no report: %s" % error
            outcome.get_result().sections.append(("guest", report))


@contextlib.contextmanager
def _time_limit(item):
    marker = item.get_closest_marker("time_limit")
    limit = seconds(marker.args[0] if marker else TEST_SECONDS)

    def too_long(*_):
        raise TimeoutError("it took longer than %.0f s" % limit)

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item):
    """Nothing waits for ever, neither a machine's boot ..."""
    with _time_limit(item):
        yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """... nor a test."""
    with _time_limit(item):
        yield
