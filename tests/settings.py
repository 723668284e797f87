"""The product's settings with a data folder of their own, so that tests never meet the data of `make run`."""

import os

os.environ.setdefault("PLYRUM_DATA_DIR", ".plyrum/test")
os.environ.setdefault("PLYRUM_BILLING_ENFORCE_BALANCE", "1")

from plyrum.settings import *  # noqa: E402, F403
