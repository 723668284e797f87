"""The HTTP transport of provider calls: one aiohttp session a process, flat at hundreds of parallel streams.

Source: the measurements in docs/decisions/0005-hot-path.md (httpx's pool does work that grows with the square
of what is in flight).
"""

from functools import lru_cache

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

CONNECT_SECONDS = 5
IDLE_SECONDS = 30


def open_session() -> ClientSession:
    """No proxies from the environment, no cookies, no total time limit: the executor holds that one."""
    return ClientSession(
        connector=TCPConnector(limit=0, keepalive_timeout=60, ttl_dns_cache=60),
        timeout=time_limits(IDLE_SECONDS),
        cookie_jar=DummyCookieJar(),
        auto_decompress=True,
        trust_env=False,
        read_bufsize=2**18,
    )


@lru_cache(maxsize=8)
def time_limits(idle_seconds: int | None) -> ClientTimeout:
    """Connecting and silence are limited here, the whole call by the executor."""
    return ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=idle_seconds)
