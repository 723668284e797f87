"""The only factory of HTTP clients for ordinary calls (payments, receipts, rates).

Model providers have their own transport (`orchestration/providers/transport.py`), made for hundreds of
parallel streams.
"""

import httpx


def client(
    *, base_url: str, read_timeout_seconds: float, auth: tuple[str, str] | None = None
) -> httpx.Client:
    """A client with explicit time limits, no proxies from the environment and no redirects."""
    timeout = httpx.Timeout(read_timeout_seconds, connect=5.0)
    return httpx.Client(
        base_url=base_url, timeout=timeout, auth=auth, trust_env=False, follow_redirects=False
    )
