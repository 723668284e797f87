"""Letters as the mailbox keeps them: parsing, storing, searching.

Written by the SMTP handler, read by the mailbox pages. Nothing is ever sent on.
"""

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser

import orjson

from sandbox.clock import Clock

KEPT = 500
MAX_NUMBER = 2**63 - 1
CODE_LINE = re.compile(r"^\s*([A-Z0-9]{3,5}-?[A-Z0-9]{3,5})\s*$", re.MULTILINE)
BLOCKS = frozenset({"p", "div", "br", "tr", "li", "h1", "h2", "h3", "table", "ul", "ol"})
HIDDEN = frozenset({"style", "script", "head", "title"})


@dataclass(frozen=True, slots=True)
class Letter:
    """One letter; `received_at` is in seconds since 1970."""

    id: int
    received_at: float
    sender: str
    recipients: tuple[str, ...]
    subject: str
    text: str

    @property
    def code(self) -> str | None:
        """The one-time code: a line that is nothing but a code."""
        match = CODE_LINE.search(self.text)
        return match[1] if match else None


class Mailbox:
    """The last five hundred letters."""

    def __init__(self, store: sqlite3.Connection, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def keep(self, *, sender: str, recipients: Sequence[str], raw: bytes) -> int:
        """Store a letter and forget the oldest above the bound; answer its number."""
        message = message_from_bytes(raw, policy=policy.default)
        cursor = self._store.execute(
            "INSERT INTO mails (received_at, sender, recipients, subject, body_text, raw)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (
                self._clock.now(),
                sender,
                orjson.dumps(list(recipients)).decode(),
                str(message.get("Subject", "")),
                _text_of(message),
                raw,
            ),
        )
        number = cursor.lastrowid or 0
        self._store.execute("DELETE FROM mails WHERE id <= ?", (number - KEPT,))
        return number

    def letters(self, *, to: str | None = None, since: float | None = None, after: int = 0) -> list[Letter]:
        """List newest first; `to` is a recipient in any case, `since` a moment, `after` a number."""
        rows = self._store.execute(
            "SELECT * FROM mails WHERE id > ? AND received_at >= ? ORDER BY id DESC", (after, since or 0.0)
        )
        letters = [_letter(row) for row in rows]
        if to is None:
            return letters
        wanted = to.strip().lower()
        return [letter for letter in letters if wanted in {one.lower() for one in letter.recipients}]

    def letter(self, number: int) -> Letter | None:
        if number > MAX_NUMBER:
            return None
        row = self._store.execute("SELECT * FROM mails WHERE id = ?", (number,)).fetchone()
        return None if row is None else _letter(row)

    def clear(self) -> None:
        self._store.execute("DELETE FROM mails")


def _letter(row: sqlite3.Row) -> Letter:
    return Letter(
        id=row["id"],
        received_at=row["received_at"],
        sender=row["sender"],
        recipients=tuple(orjson.loads(row["recipients"])),
        subject=row["subject"],
        text=row["body_text"],
    )


def _text_of(message: EmailMessage) -> str:
    """Take the plain part, or the words of the HTML part."""
    part = message.get_body(preferencelist=("plain", "html"))
    if part is None:
        return ""
    try:
        written = str(part.get_content())
    except LookupError:  # a character set nobody has heard of
        payload = part.get_payload(decode=True)
        written = payload.decode(errors="replace") if isinstance(payload, bytes) else ""
    return _words(written) if part.get_content_type() == "text/html" else written.replace("\r\n", "\n")


class _Words(HTMLParser):
    """Collects text, block ends as line ends, and the addresses of links."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in HIDDEN:
            self._hidden += 1
        if tag in BLOCKS:
            self.parts.append("\n")
        href = dict(attrs).get("href")
        if tag == "a" and href:
            self.parts.append(f"{href} ")

    def handle_endtag(self, tag: str) -> None:
        if tag in HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        if tag in BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


def _words(markup: str) -> str:
    parser = _Words()
    parser.feed(markup)
    parser.close()
    lines = (" ".join(line.split()) for line in "".join(parser.parts).splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
