"""httpx for our own servers: they speak plain HTTP, so no client reads the certificates of the world."""

import ssl
from functools import partial

import httpx

NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody: it loads no certificates
client = partial(httpx.Client, verify=NOBODY, trust_env=False)
get = partial(httpx.get, verify=NOBODY, trust_env=False)
post = partial(httpx.post, verify=NOBODY, trust_env=False)
request = partial(httpx.request, verify=NOBODY, trust_env=False)
stream = partial(httpx.stream, verify=NOBODY, trust_env=False)
