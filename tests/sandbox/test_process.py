"""The sandbox as a process: flags, refusals, restart with a file, a clean end."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests import web
from tests.sandbox.conftest import new_key, payment_body
from tests.sandbox.receiver import WebhookReceiver
from tests.sandbox_process import ROOT, SHOP, SandboxProcess


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sandbox", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_refuses_production() -> None:
    result = run("--port", "0", PLYRUM_ENV="production")

    assert result.returncode == 2
    assert "PLYRUM_ENV=production" in result.stderr


@pytest.mark.parametrize(
    "url", ["https://shop.example/hook", "ftp://127.0.0.1/x", "http://127.0.0.1.example/x"]
)
def test_it_refuses_a_webhook_outside_this_machine(url: str) -> None:
    result = run("--port", "0", "--webhook-url", url)

    assert result.returncode == 2
    assert "--webhook-url" in result.stderr


@pytest.mark.parametrize("flag", ["--port", "--smtp-port"])
def test_a_taken_port_is_a_clear_message(flag: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = "--smtp-port" if flag == "--port" else "--port"

        result = run(flag, str(port), other, "0")

    assert result.returncode == 2
    assert f"Port {port} of 127.0.0.1 cannot be used" in result.stderr
    assert flag in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_it_starts_quickly_and_ends_cleanly(signal_number: int) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with SandboxProcess() as sandbox, web.client(base_url=sandbox.url, timeout=30) as client:
        client.get("/")

        status = sandbox.stop(signal_number)
        output = sandbox.output()

    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert status == 0
    # Its own work: how long that takes depends on what else this machine does.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5
    assert "sandbox.stopped" in output
    assert "Traceback" not in output


def test_it_ends_while_an_answer_hangs() -> None:
    body = {"model": "fault-hang", "messages": [{"role": "user", "content": "Вы здесь?"}]}
    headers = {"Authorization": "Bearer sk-sandbox-1"}
    with SandboxProcess() as sandbox:
        url = f"{sandbox.url}/openai/v1/chat/completions"
        with ThreadPoolExecutor(1) as threads:
            hanging = threads.submit(httpx.post, url, json=body, headers=headers, timeout=60)
            while sandbox.control("provider/calls")["count"] == 0:
                time.sleep(0.01)

            status = sandbox.stop()
            output = sandbox.output()
            hanging.exception(timeout=60)

    assert status == 0
    assert "Traceback" not in output


def test_its_state_survives_a_restart(tmp_path: Path) -> None:
    data = tmp_path / "deep" / "sandbox.sqlite3"
    key = new_key()
    with SandboxProcess(data_path=data) as sandbox:
        url = f"{sandbox.url}/yookassa/v3/payments"
        payment = web.post(url, json=payment_body(), headers=key, auth=SHOP).json()
        sandbox.control(f"payments/{payment['id']}/outcome", {"outcome": "succeeded"})

    with SandboxProcess(data_path=data) as sandbox:
        url = f"{sandbox.url}/yookassa/v3/payments"
        shown = web.get(f"{url}/{payment['id']}", auth=SHOP).json()
        repeated = web.post(url, json=payment_body(), headers=key, auth=SHOP).json()

    assert shown["status"] == "succeeded"
    assert repeated["id"] == payment["id"]


def test_an_undelivered_notification_is_delivered_after_a_restart(
    tmp_path: Path, receiver: WebhookReceiver
) -> None:
    data = tmp_path / "sandbox.sqlite3"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and nobody listens
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}/hook"
        with SandboxProcess(data_path=data, webhook_url=nowhere) as sandbox:
            url = f"{sandbox.url}/yookassa/v3/payments"
            payment = web.post(url, json=payment_body(), headers=new_key(), auth=SHOP).json()
            sandbox.control(f"payments/{payment['id']}/outcome", {"outcome": "succeeded"})

    with SandboxProcess(data_path=data, webhook_url=receiver.url):
        receiver.wait(lambda: len(receiver.about(payment["id"])) == 1)

    assert receiver.about(payment["id"])[0]["event"] == "payment.succeeded"


def test_its_lines_carry_no_personal_data(sandbox: SandboxProcess) -> None:
    body = payment_body(description="Анна Каренина", metadata={"who": "anna@example.com"})
    url = f"{sandbox.url}/yookassa/v3/payments"
    payment = web.post(url, json=body, headers=new_key(), auth=SHOP).json()
    data = {"number": "5555555555554600", "expiry": "12/30", "csc": "123"}
    web.post(f"{sandbox.url}/yookassa/pay/{payment['id']}/card", data=data)

    output = sandbox.output()

    assert f"yookassa.payment id={payment['id']} status=canceled" in output
    for secret in ("Анна", "anna@example.com", "5555555555554600", "test_sandbox_secret"):
        assert secret not in output
