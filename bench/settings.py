"""The product's settings on a data folder of the benchmark's own, with the catalogue of the tests."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Never a server or a folder that somebody named: a benchmark begins by deleting its ledger.
os.environ["PLYRUM_DATA_DIR"] = str(ROOT / ".plyrum" / "bench")
os.environ["DATABASE_URL"] = os.environ["REDIS_URL"] = ""
os.environ.setdefault("PLYRUM_BILLING_ENFORCE_BALANCE", "1")
os.environ.setdefault(
    "PLYRUM_ENFORCE_REQUEST_RATES", "1"
)  # counted as in production, at rates nobody reaches
os.environ.setdefault("PLYRUM_CATALOGUE_PATH", str(ROOT / "tests" / "catalogue.toml"))
os.environ.setdefault("PLYRUM_DEBUG", "0")
os.environ.setdefault("PORT", "8650")
os.environ.setdefault("ACCESS_TOKEN_TTL", "86400")

from plyrum.settings import *  # noqa: F403
