"""Logs: structured lines with a request id, coloured for people in development, JSON in production.

Lines carry ids and counts, never prompts, answers, keys, card data or e-mail addresses.
"""

import logging
import logging.config
from http import HTTPStatus
from typing import Any

import structlog

# They say themselves which part fails (plyrum/health.py).
PROBES = ("/api/health", "/api/ready")


def configure(*, is_production: bool) -> None:
    """Set up structlog and the standard library's logging to write the same lines to standard error."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer() if is_production else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        "foreign_pre_chain": shared,
    }
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"lines": formatter},
            "filters": {"no_probes": {"()": "django.utils.log.CallbackFilter", "callback": _is_no_probe}},
            "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "lines"}},
            "root": {"handlers": ["out"], "level": "INFO"},
            "loggers": {
                "django": {"handlers": [], "level": "INFO", "propagate": True},  # not its own second handler
                "django.request": {"filters": ["no_probes"]},
                "uvicorn.access": {"level": "WARNING"},
                "httpx": {"level": "WARNING"},
                "celery.worker.strategy": {"level": "WARNING"},
                "celery.app.trace": {"level": "WARNING"},
                "celery.beat": {"level": "WARNING"},
            },
        }
    )


def _is_no_probe(record: logging.LogRecord) -> bool:
    """Whether a line of Django's about an answer is not about a probe that found something missing."""
    is_refusal = getattr(record, "status_code", None) == HTTPStatus.SERVICE_UNAVAILABLE
    return not (is_refusal and record.__dict__["request"].path in PROBES)


def configure_from_settings(options: dict[str, bool]) -> None:
    """Django's `LOGGING_CONFIG` hook."""
    configure(**options)
