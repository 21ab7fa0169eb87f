# SPDX-License-Identifier: MIT
"""Who is logged in, against who(1)."""

import os
import subprocess
import time

import pytest


def test_users(shared):
    reply = shared.cmd("guest-get-users")
    for entry in reply:
        assert set(entry) == {"user", "login-time"}
        assert isinstance(entry["login-time"], (int, float))
        assert 0 < entry["login-time"] <= time.time()
    users = [entry["user"] for entry in reply]
    assert len(set(users)) == len(users)
    if os.path.exists("/run/utmp"):
        lines = subprocess.run(["who"], check=True, capture_output=True, text=True).stdout
        # who leaves out those whose process is gone
        assert set(users) >= {line.split()[0] for line in lines.splitlines()}


@pytest.mark.skipif(os.path.exists("/run/utmp") or os.path.exists("/var/run/utmp")
                    or os.path.exists("/run/systemd/sessions"),
                    reason="this machine knows who is logged in")
def test_nobody_knows(shared):
    assert shared.cmd("guest-get-users") == []
