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
