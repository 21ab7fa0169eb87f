# SPDX-License-Identifier: MIT
"""Commands that would change the machine: here only what they refuse.

NOTHING in this file may succeed: it runs on the machine of whoever runs the tests. What these
commands do is tested in a guest, tests/guest/test_{accounts,time,power}.py.
"""
import pytest

PASSWORD = "guest-set-user-password"


def refusal(channel, command, arguments):
    reply = channel.request(command, arguments)
    assert reply["error"]["class"] == "GenericError"
    return reply["error"]["desc"]


@pytest.mark.parametrize("arguments, expected", [
    ({"username": "nosuch", "password": "!!", "crypted": False},
     "Base64 data contains invalid characters"),
    ({"username": "nosuch", "password": "eAp5", "crypted": False},
     "forbidden characters in raw password"),
    ({"username": "a:b", "password": "eA==", "crypted": False}, "forbidden characters in username"),
    ({"username": "nosuch", "password": "eA=="}, "Parameter 'crypted' is missing"),
    ({"password": "eA==", "crypted": False}, "Parameter 'username' is missing"),
], ids=str)
def test_password(shared, arguments, expected):
    assert refusal(shared, PASSWORD, arguments) == expected


@pytest.mark.parametrize("arguments, expected", [
    ({"username": "nosuch", "password": "eAB5", "crypted": False},
     "forbidden characters in raw password"),
    ({"username": "nosuch", "password": "eDp5", "crypted": True},
     "forbidden characters in new password"),
    ({"username": "nosuch", "password": "eAp5", "cryptd": False},
     "forbidden characters in raw password"),
], ids=str)
@pytest.mark.bellhop_only("smuggled-password")
def test_password_where_the_classic_agent_differs(shared, arguments, expected):
    assert refusal(shared, PASSWORD, arguments) == expected


@pytest.mark.parametrize("time", [-1, -5])
def test_time(shared, time):
    assert refusal(shared, "guest-set-time", {"time": time}) == (
        "Failed to set time to guest: Invalid argument")


@pytest.mark.parametrize("mode", ["bad", "", "HALT", "powerdown "])
def test_shutdown(shared, mode):
    assert refusal(shared, "guest-shutdown", {"mode": mode}) == (
        "mode is invalid (valid values are: halt|powerdown|reboot")


@pytest.mark.parametrize("command, arguments, expected", [
    ("guest-set-time", {"time": "1"}, "Invalid parameter type for 'time', expected: integer"),
    ("guest-set-time", {"tme": 1}, "Parameter 'tme' is unexpected"),
    ("guest-shutdown", {"mode": 1}, "Invalid parameter type for 'mode', expected: string"),
    ("guest-suspend-ram", {"mode": "x"}, "Parameter 'mode' is unexpected"),
    ("guest-suspend-disk", {"mode": "x"}, "Parameter 'mode' is unexpected"),
    ("guest-suspend-hybrid", {"mode": "x"}, "Parameter 'mode' is unexpected"),
], ids=str)
def test_arguments(shared, command, arguments, expected):
    assert refusal(shared, command, arguments) == expected
