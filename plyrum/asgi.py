"""The ASGI door: the engine's paths are served lean, everything else by Django.

Source: docs/decisions/0005-hot-path.md.
"""

import os
import warnings
from typing import Any

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.utils.module_loading import import_string

from plyrum import embedded, lean

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "plyrum.settings")
# Of static files, which WhiteNoise hands over as plain iterators: they are small. What is large is async.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous", category=Warning)
embedded.start_if_needed()
django.setup(set_prefix=False)

_engine: Any = None
_django = ASGIHandler()


async def _with_lifespan(scope: lean.Scope, receive: lean.Receive, send: lean.Send) -> None:
    """Start the engine before the first request, let running answers finish at the end."""
    global _engine
    if scope["type"] != "lifespan":
        await _django(scope, receive, send)  # type: ignore[arg-type]
        return
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            _engine = await import_string(settings.ENGINE_OPENER)()
            await send({"type": "lifespan.startup.complete"})
        else:
            await _engine.close()
            await send({"type": "lifespan.shutdown.complete"})
            return


application = lean.router(import_string(settings.LEAN_ROUTES), _with_lifespan)
