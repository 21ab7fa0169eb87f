# SPDX-License-Identifier: MIT
"""What is packaged: it is understood by the programs that it is for, where they are installed."""
import os
import re
import shutil
import subprocess

import pytest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
PACKAGING = os.path.join(ROOT, "packaging")
SELINUX_MAKEFILE = "/usr/share/selinux/devel/Makefile"
PROFILES = ("full", "provision", "backup", "monitor")


def find(program):
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        pytest.skip(f"there is no {program}")
    return path


def read(*parts):
    with open(os.path.join(ROOT, *parts), encoding="utf-8") as file:
        return file.read()


def run(*command, **options):
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, **options)


def make_unit(folder, profile):
    """The unit, with the profile's drop-in, of a program that is there."""
    def fill_in(text):
        return text.replace("@sbindir@/bellhopd", "/bin/true")

    unit = folder / "bellhop.service"
    unit.write_text(fill_in(read("packaging", "bellhop.service.in")), encoding="utf-8")
    if profile != "full":
        (folder / "bellhop.service.d").mkdir()
        (folder / "bellhop.service.d" / f"{profile}.conf").write_text(
            fill_in(read("packaging", "systemd", f"{profile}.conf.in")), encoding="utf-8")
    return str(unit)


@pytest.mark.parametrize("profile", PROFILES)
def test_unit(tmp_path, profile):
    result = run(find("systemd-analyze"), "verify", "--man=no", make_unit(tmp_path, profile))
    complaints = [line for line in result.stderr.splitlines() if "bellhop" in line]
    assert complaints == []


@pytest.mark.parametrize("profile", PROFILES)
def test_exposure_is_what_the_page_says(tmp_path, profile):
    """Of another version of systemd the figure may be another one; it is not to be worse by much."""
    result = run(find("systemd-analyze"), "security", "--offline=true", "--no-pager",
                 make_unit(tmp_path, profile))
    found = re.search(r"exposure level for bellhop.service: ([\d.]+)", result.stdout)
    if not found:
        pytest.skip("this systemd-analyze cannot do it offline")
    documented = re.search(rf"^\| {profile} \| ([\d.]+) \|$", read("docs", "security.md"), re.M)
    assert abs(float(found[1]) - float(documented[1])) <= 0.5


def test_apparmor_profile(tmp_path):
    if not os.path.exists("/etc/apparmor.d/tunables/global"):
        pytest.skip("there are no tunables of AppArmor")
    text = read("packaging", "apparmor", "usr.sbin.bellhopd.in")
    profile = tmp_path / "usr.sbin.bellhopd"
    profile.write_text(text.replace("@sbindir@", "/usr/sbin").replace("@name@", profile.name),
                       encoding="utf-8")
    result = run(find("apparmor_parser"), "--skip-kernel-load", "--skip-cache", str(profile))
    assert result.returncode == 0, result.stderr


def test_selinux_module(tmp_path):
    if not os.path.exists(SELINUX_MAKEFILE):
        pytest.skip("there is no selinux-policy-dev")
    for name in ("bellhop.te", "bellhop.fc", "bellhop.if"):
        shutil.copy(os.path.join(PACKAGING, "selinux", name), tmp_path)
    find("checkmodule"), find("semodule_package")
    result = run(find("make"), "-f", SELINUX_MAKEFILE, "bellhop.pp", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "bellhop.pp").stat().st_size > 0


def test_users():
    line = read("packaging", "bellhop.sysusers").splitlines()[-1]
    assert re.fullmatch(r'u bellhop - "[^"]+"', line)
    if shutil.which("systemd-sysusers"):
        path = os.path.join(PACKAGING, "bellhop.sysusers")
        result = run("systemd-sysusers", "--dry-run", path)
        assert "unrecognized" in result.stderr or result.returncode == 0, result.stderr
