"""The SMTP door of the mailbox, on the event loop of the whole sandbox.

Made by `server`. Accepts every sender and recipient, and any sign-in, keeps the letter, sends nothing on.
"""

import asyncio

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from sandbox import logs
from sandbox.mail.messages import Mailbox

MAX_LETTER_BYTES = 10 * 1024 * 1024
HOST_NAME = "sandbox.localhost"


class LetterHandler:
    """What aiosmtpd calls when a letter is complete."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content or b""
        raw = content if isinstance(content, bytes) else content.encode()
        number = self._mailbox.keep(
            sender=envelope.mail_from or "", recipients=[str(one) for one in envelope.rcpt_tos], raw=raw
        )
        logs.event("mail.received", id=number, recipients=len(envelope.rcpt_tos), bytes=len(raw))
        return "250 OK: kept in the sandbox's mailbox"


class LetterServer(SMTP):
    """One SMTP conversation."""

    def __init__(self, mailbox: Mailbox) -> None:
        super().__init__(
            LetterHandler(mailbox),
            data_size_limit=MAX_LETTER_BYTES,
            enable_SMTPUTF8=True,
            hostname=HOST_NAME,
            ident="Plyrum sandbox",
            authenticator=_anybody,
            auth_require_tls=False,
            loop=asyncio.get_running_loop(),
        )


def _anybody(
    _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: LoginPassword
) -> AuthResult:
    return AuthResult(success=True, auth_data=data)
