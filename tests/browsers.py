"""Where the browser of the tests is, and how it comes onto a bare machine.

Called by `tests/all.py` before the tests and by the browser fixtures. It installs Debian's package only.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
MISSING = (
    "No browser is found. Install Chromium (Debian: apt-get install chromium) or Chrome, "
    "or name its program by PLYRUM_CHROMIUM."
)


def find() -> str | None:
    """The program of the browser: PLYRUM_CHROMIUM, else the first known name on the PATH."""
    named = os.environ.get("PLYRUM_CHROMIUM")
    if named:
        return shutil.which(named)
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def require() -> str:
    """As find. Raises RuntimeError that says what to install."""
    path = find()
    if path is None:
        raise RuntimeError(MISSING)
    return path


def install() -> str | None:
    """Install Debian's chromium where apt-get and its rights are there; answer the program, None without."""
    if os.environ.get("PLYRUM_CHROMIUM") or shutil.which("apt-get") is None:
        return find()
    rights = _rights()
    if rights is None:
        return find()
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (("update", "-q"), ("install", "-q", "-y", "--no-install-recommends", "chromium")):
        subprocess.run([*rights, "apt-get", *arguments], check=False, env=environment)
    return find()


def _rights() -> Sequence[str] | None:
    """What stands before a command that only root may run; None without a way that asks nothing."""
    if os.getuid() == 0:
        return ()
    if shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0:
        return ("sudo", "-n", "--preserve-env=DEBIAN_FRONTEND")
    return None
