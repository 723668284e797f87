"""The product's settings with a data folder of their own, so that tests never meet the data of `make run`."""

import os
import tomllib
from pathlib import Path

# Of tests that run side by side each process has servers of its own, which its children share.
_folder = Path(os.environ.setdefault("PLYRUM_DATA_DIR", ".plyrum/test"))
_worker = os.environ.get("PYTEST_XDIST_WORKER", "")
if _worker and _folder.name != _worker:
    os.environ["PLYRUM_DATA_DIR"] = str(_folder / _worker)
os.environ.setdefault("PLYRUM_BILLING_ENFORCE_BALANCE", "1")
os.environ.setdefault("PLYRUM_CATALOGUE_PATH", str(Path(__file__).with_name("catalogue.toml")))

from plyrum.settings import *  # noqa: E402, F403
from plyrum.settings import (  # noqa: E402
    DATABASES,
    PLYRUM_CATALOGUE_PATH,
    PLYRUM_DATA_DIR,
    PROVIDER_API_KEYS,
)

# What a test waits for while the machine stands still is not refused; a deadlock is told all the same.
DATABASES["default"]["OPTIONS"]["options"] += (
    " -c lock_timeout=60s -c statement_timeout=90s -c idle_in_transaction_session_timeout=90s"
)

STATIC_ROOT = PLYRUM_DATA_DIR / "static"
STATIC_ROOT.mkdir(parents=True, exist_ok=True)

for _provider in tomllib.loads(PLYRUM_CATALOGUE_PATH.read_text(encoding="utf-8"))["provider"]:
    if _provider["id"] != "keyless":
        _name = _provider["id"].upper().replace("-", "_")
        PROVIDER_API_KEYS.setdefault(_name, ("sk-sandbox-1", "sk-sandbox-2"))
