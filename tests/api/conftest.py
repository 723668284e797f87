"""Two real servers for the tests of the whole API, one per payment provider.

They believe one proxy, so that each request comes from an address of its own and meets no limit of guessing.
"""

from collections.abc import Iterator

import pytest

from tests.sandbox_process import SandboxProcess
from tests.server_process import ServerProcess

MOCK_SECRET = "walk-mock-secret"


@pytest.fixture(scope="session")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess() as process:
        yield process


@pytest.fixture(scope="session")
def server(sandbox: SandboxProcess) -> Iterator[ServerProcess]:
    with ServerProcess(sandbox_url=sandbox.url, PLYRUM_TRUSTED_PROXY_COUNT="1") as process:
        yield process


@pytest.fixture(scope="session")
def mock_server(sandbox: SandboxProcess) -> Iterator[ServerProcess]:
    with ServerProcess(
        sandbox_url=sandbox.url,
        PLYRUM_TRUSTED_PROXY_COUNT="1",
        PAYMENTS_PROVIDER="mock",
        PAYMENTS_MOCK_WEBHOOK_SECRET=MOCK_SECRET,
    ) as process:
        yield process
