"""Log lines: one event, one line, whoever writes it; JSON in production."""

import json
import subprocess
import sys
from typing import Any

import pytest
from django.conf import settings

WRITE = """
import logging, sys
import structlog
from plyrum import logs
for _ in range(int(sys.argv[2])):
    logs.configure(is_production=sys.argv[1] == "production")
structlog.contextvars.bind_contextvars(request_id="r-1")
log = structlog.get_logger("orchestration.engine")
log.info("run_ended", run_id="x", words="при\\nвет")
log.debug("never_shown")
logging.getLogger("django.request").warning("Not found: %s", "/x")
logging.getLogger("uvicorn.error").info("started")
logging.getLogger("httpx").info("never_shown")
logging.getLogger("uvicorn.access").info("never_shown")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("broken")
"""


def written(form: str, *, times: int = 1) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WRITE, form, str(times)],
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("times", [1, 2])
def test_production_writes_one_json_object_a_line(times: int) -> None:
    lines: list[dict[str, Any]] = [
        json.loads(line) for line in written("production", times=times).splitlines()
    ]

    assert [line["event"] for line in lines] == ["run_ended", "Not found: /x", "started", "broken"]
    assert [line["level"] for line in lines] == ["info", "warning", "info", "error"]
    assert {line["request_id"] for line in lines} == {"r-1"}
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert (lines[0]["run_id"], lines[0]["words"]) == ("x", "при\nвет")
    assert "ZeroDivisionError" in lines[-1]["exception"]


def test_development_writes_for_people() -> None:
    text = written("development")

    assert text.count("run_ended") == text.count("Not found: /x") == 1
    assert "never_shown" not in text
    assert "ZeroDivisionError" in text
    assert "\x1b[" not in text
