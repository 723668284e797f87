"""Model output to safe HTML: Markdown without raw HTML, cleaned by an allow-list, coloured by classes only.

One renderer for the stream and for history, so that both show the same. What a model writes is untrusted: no
picture is loaded, no script or style survives, every link shows where it leads.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import nh3
from django.utils.translation import gettext as _
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

LINK_SCHEMES = {"http", "https", "mailto"}
LINK_REL = "noopener nofollow noreferrer"
MAX_COLOURED_CHARS = 50_000  # a longer code block is shown plain
TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p",
    "pre", "s", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
ATTRIBUTES = {"a": {"href"}, "ol": {"start"}, "code": {"class"}, "span": {"class"}}
HTTP = re.compile(r"https?://", re.IGNORECASE)
ALLOWED_LINK = re.compile(r"(https?://|mailto:)", re.IGNORECASE)

Env = dict[str, Any]  # link definitions seen so far; markdown-it's own form


def render(text: str, env: Env | None = None) -> str:
    """A whole text, or a run of whole blocks, as HTML."""
    html: str = _parser().render(text, {} if env is None else env)
    return nh3.clean(html, tags=TAGS, attributes=ATTRIBUTES, url_schemes=LINK_SCHEMES, link_rel=LINK_REL)


class BlockStream:
    """A growing text as finished blocks and an unfinished tail.

    A top-level block is finished when the next one has begun. Only whole lines are looked at, so what is
    finished depends on the text alone, not on the pieces it came in.
    """

    def __init__(self) -> None:
        self._env: Env = {}
        self._tail = ""
        self._carry = ""  # a carriage return whose line feed may be still to come

    @property
    def tail(self) -> str:
        """The unfinished block as it was written."""
        return self._tail

    def feed(self, text: str) -> str:
        """Add text; answers the HTML of the blocks that it finished, "" when none."""
        text = self._carry + text
        self._carry = "\r" if text.endswith("\r") else ""
        text = text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n")
        self._tail += text
        if "\n" not in text:
            return ""
        return self._take(_start_of_last_block(self._tail[: self._tail.rindex("\n") + 1], self._env))

    def finish(self) -> str:
        """The HTML of what is left."""
        self._tail += "\n" if self._carry else ""
        return self._take(len(self._tail))

    def _take(self, size: int) -> str:
        finished, self._tail = self._tail[:size], self._tail[size:]
        return render(finished, self._env) if finished.strip() else ""


def _start_of_last_block(text: str, env: Env) -> int:
    """Where the last top-level block of whole lines begins, in characters."""
    parser = _parser()
    tokens: list[Token] = []
    # A copy: a link definition that is still growing must not be remembered half.
    parser.block.parse(text, parser, {"references": dict(env.get("references", {}))}, tokens)
    starts = [token.map[0] for token in tokens if token.level == 0 and token.nesting >= 0 and token.map]
    if len(starts) < 2:
        return 0
    return sum(len(line) + 1 for line in text.split("\n")[: starts[-1]])


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "linkify": False, "highlight": _coloured})
    parser.enable(["table", "strikethrough"])
    parser.validateLink = _is_allowed  # type: ignore[method-assign]
    parser.core.ruler.push("plain_outside", _plain_outside)
    return parser


def _is_allowed(url: str) -> bool:
    """Only whole addresses of the outside: a relative link would lead into our own pages."""
    return ALLOWED_LINK.match(url) is not None


def _plain_outside(state: StateCore) -> None:
    """Pictures become links that say so; a link whose text hides its host shows it."""
    for block in state.tokens:
        if block.type == "inline" and block.children:
            block.children = _with_hosts(_without_pictures(block.children))


def _without_pictures(tokens: Sequence[Token]) -> list[Token]:
    depth, found = 0, []
    for token in tokens:
        depth += token.nesting if token.type in ("link_open", "link_close") else 0
        found += _picture(token, is_inside_link=depth > 0) if token.type == "image" else [token]
    return found


def _picture(image: Token, *, is_inside_link: bool) -> list[Token]:
    source = str(image.attrGet("src") or "")
    label = _text(_("изображение: %(host)s") % {"host": _host(source) or image.content})
    if is_inside_link or not HTTP.match(source):
        return [label]
    opening = Token("link_open", "a", 1, attrs={"href": source})
    return [opening, label, Token("link_close", "a", -1)]


def _with_hosts(tokens: Sequence[Token]) -> list[Token]:
    found: list[Token] = []
    host, shown = "", ""
    for token in tokens:
        found.append(token)
        if token.type == "link_open":
            host, shown = _host(str(token.attrGet("href") or "")), ""
        elif token.type == "link_close":
            if host and host not in shown.lower():
                found.append(_text(f" ({host})"))
            host = ""
        elif token.type in ("text", "code_inline"):
            shown += token.content
    return found


def _text(content: str) -> Token:
    return Token("text", "", 0, content=content)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # an address that only looks like one
        return ""


def _coloured(code: str, language: str, _attributes: str) -> str:
    """Code with class names of Pygments; "" leaves escaping to the renderer."""
    if not language or len(code) > MAX_COLOURED_CHARS:
        return ""
    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return ""
    return str(highlight(code, lexer, HtmlFormatter(nowrap=True)))
