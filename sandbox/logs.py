"""One short line per event: name, then key=value pairs. Ids and sums only, never cards, addresses or prompts.

Called by every module of the sandbox through `event`.
"""

import logging
import sys

_logger = logging.getLogger("sandbox")


def configure() -> None:
    """Send the sandbox's lines to standard output and silence uvicorn's own (it reports our planned cuts)."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _logger.addHandler(handler)
    _logger.setLevel(logging.INFO)
    _logger.propagate = False
    uvicorn = logging.getLogger("uvicorn.error")
    uvicorn.addFilter(_is_unplanned)
    uvicorn.addHandler(handler)
    uvicorn.setLevel(logging.ERROR)


def event(name: str, **facts: object) -> None:
    """Write `name key=value ...`; facts are plain ids, sums, counts and states."""
    pairs = "".join(f" {key}={value}" for key, value in facts.items())
    _logger.info("%s%s", name, pairs)


def _is_unplanned(record: logging.LogRecord) -> bool:
    return "ASGI callable returned without" not in record.getMessage()
