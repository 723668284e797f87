"""The text of answers, many at once: from the kept stories, and from the live ones until they are kept.

A story is kept a moment after its run has ended; in between, and while it runs, Redis has it.
"""

from collections.abc import Collection
from uuid import UUID

import structlog
from django.conf import settings
from redis import Redis
from redis.exceptions import RedisError

from orchestration import queries
from orchestration.frames import lines, stream_key
from orchestration.models import RunFrames

log = structlog.get_logger(__name__)


def texts(run_ids: Collection[UUID]) -> dict[UUID, str]:
    """The visible text of each run so far; a run whose frames are no longer kept is absent."""
    kept = RunFrames.objects.filter(run_id__in=run_ids).values_list("run_id", "frames")
    found = {run_id: queries.text_of(frames.splitlines()) for run_id, frames in kept}
    return found | _live([run_id for run_id in run_ids if run_id not in found])


def _live(run_ids: Collection[UUID]) -> dict[UUID, str]:
    found = {}
    try:
        with Redis.from_url(settings.REDIS_URL) as redis:
            for run_id in run_ids:
                entries: list[tuple[bytes, dict[bytes, bytes]]] = redis.xrange(stream_key(run_id))
                frames = [line.decode() for _, fields in entries for line in lines(fields[b"f"])]
                if frames:
                    found[run_id] = queries.text_of(frames)
    except (RedisError, OSError) as error:
        log.warning("live_answers_not_read", error=type(error).__name__)
    return found
