"""Letters in over SMTP, out as pages and JSON."""

import smtplib
from email.message import EmailMessage
from uuid import uuid4

import httpx

from tests.sandbox_process import SandboxProcess


def letter(
    to: str, *, subject: str = "Код для входа", text: str = "Ваш код:\n\n4F9K-2XQ7\n", html: str = ""
) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Плайрум <no-reply@plyrum.localhost>"
    message["To"] = to
    message["Subject"] = subject
    if text:
        message.set_content(text)
    if html and text:
        message.add_alternative(html, subtype="html")
    elif html:
        message.set_content(html, subtype="html")
    return message


def send(sandbox: SandboxProcess, message: EmailMessage) -> None:
    with smtplib.SMTP(sandbox.smtp_host, sandbox.smtp_port, timeout=30) as smtp:
        smtp.send_message(message)


def somebody() -> str:
    return f"anna-{uuid4().hex[:8]}@example.com"


def test_a_letter_arrives_with_its_code(sandbox: SandboxProcess, browser: httpx.Client) -> None:
    to = somebody()

    send(sandbox, letter(to))
    [found] = sandbox.letters(to.upper())
    page = browser.get(f"/mailbox/{found['id']}").text

    assert found["subject"] == "Код для входа"
    assert found["to"] == [to]
    assert found["from"] == "no-reply@plyrum.localhost"
    assert found["code"] == "4F9K-2XQ7"
    assert 'data-test="code">4F9K-2XQ7<' in page
    assert browser.get(f"/mailbox/api/messages/{found['id']}").json() == found


def test_the_list_is_newest_first_and_filtered(sandbox: SandboxProcess, browser: httpx.Client) -> None:
    to, other = somebody(), somebody()
    send(sandbox, letter(to, subject="Первое"))
    send(sandbox, letter(other, subject="Чужое"))
    send(sandbox, letter(to, subject="Второе"))

    listed = sandbox.letters(to)
    page = browser.get("/mailbox", params={"to": to}).text
    newer = browser.get("/mailbox/api/messages", params={"to": to, "since": str(listed[1]["id"])}).json()
    since = browser.get("/mailbox/api/messages", params={"to": to, "since": listed[0]["received_at"]}).json()

    assert [one["subject"] for one in listed] == ["Второе", "Первое"]
    assert "Первое" in page
    assert "Чужое" not in page
    assert [one["subject"] for one in newer["items"]] == ["Второе"]
    assert "Второе" in [one["subject"] for one in since["items"]]


def test_html_is_shown_as_words_only(sandbox: SandboxProcess, browser: httpx.Client) -> None:
    to = somebody()
    markup = (
        "<html><head><style>p{}</style></head><body><p>Здравствуйте</p><script>alert(1)</script>"
        '<p><a href="http://127.0.0.1:8000/verify?a=1&amp;b=2">Подтвердить</a></p>'
        '<img src="https://tracker.example/x.png"></body></html>'
    )

    send(sandbox, letter(to, text="", html=markup, subject="<script>alert(2)</script>"))
    [found] = sandbox.letters(to)
    page = browser.get(f"/mailbox/{found['id']}").text

    assert found["text"].startswith("Здравствуйте")
    assert found["links"] == ["http://127.0.0.1:8000/verify?a=1&b=2"]
    assert "<script" not in page
    assert "tracker.example" not in page
    assert '<a href="http://127.0.0.1:8000/verify?a=1&amp;b=2">' in page


def test_outside_addresses_do_not_become_links(sandbox: SandboxProcess, browser: httpx.Client) -> None:
    to = somebody()
    send(sandbox, letter(to, text="Смотрите https://outside.example/page и http://localhost:8000/app."))

    page = browser.get(f"/mailbox/{sandbox.letters(to)[0]['id']}").text

    assert 'href="https://outside.example' not in page
    assert '<a href="http://localhost:8000/app">' in page


def test_the_plain_part_wins(sandbox: SandboxProcess) -> None:
    to = somebody()
    send(sandbox, letter(to, text="Простой текст", html="<p>Нарядный текст</p>"))

    assert sandbox.letters(to)[0]["text"].strip() == "Простой текст"


def test_an_unknown_character_set_loses_nothing(sandbox: SandboxProcess) -> None:
    to = somebody()
    raw = f"To: {to}\r\nSubject: x\r\nContent-Type: text/plain; charset=x-unheard\r\n\r\nHello 123456\r\n"
    with smtplib.SMTP(sandbox.smtp_host, sandbox.smtp_port, timeout=30) as smtp:
        smtp.sendmail("a@example.com", [to], raw)

    assert sandbox.letters(to)[0]["text"].strip() == "Hello 123456"


def test_a_missing_letter_and_a_bad_moment_are_clear(browser: httpx.Client) -> None:
    assert browser.get("/mailbox/99999999").status_code == 404
    assert browser.get("/mailbox/" + "9" * 40).status_code == 404
    assert browser.get("/mailbox/api/messages/99999999").status_code == 404
    assert browser.get("/mailbox/api/messages", params={"since": "вчера"}).status_code == 400


def test_an_empty_filter_result_says_so(browser: httpx.Client) -> None:
    page = browser.get("/mailbox", params={"to": somebody()}).text

    assert 'data-test="empty"' in page
    assert "Для этого адреса писем нет." in page


def test_only_the_last_five_hundred_letters_are_kept() -> None:
    with SandboxProcess() as sandbox:
        with smtplib.SMTP(sandbox.smtp_host, sandbox.smtp_port, timeout=30) as smtp:
            for number in range(505):
                smtp.send_message(letter("a@example.com", subject=f"№ {number}"))
        letters = sandbox.letters("a@example.com")

    assert len(letters) == 500
    assert letters[-1]["subject"] == "№ 5"
