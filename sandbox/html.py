"""Pieces of the sandbox's pages: escaping by default and one page frame.

Called by the page modules of every part. `fill` escapes everything that is not already Markup. No script, no
inline style; the style sheet is `static/sandbox.css`.
"""

import html
from collections.abc import Iterable

from starlette.responses import HTMLResponse


class Markup(str):
    """Text that is already safe HTML."""

    __slots__ = ()


def escape(value: object) -> Markup:
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def fill(template: str, **values: object) -> Markup:
    """Put escaped values into `{name}` places of a template written by us."""
    return Markup(template.format(**{name: escape(value) for name, value in values.items()}))


def join(parts: Iterable[Markup]) -> Markup:
    return Markup("".join(parts))


FRAME = """<!doctype html>
<html lang="ru">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="/static/sandbox.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/sandbox.css">
</head>
<body class="{kind}">
<a class="skip" href="#main">К содержанию</a>
<header class="top">
<a class="brand" href="/"><img src="/static/sandbox.svg" width="28" height="28" alt="">
<span>Песочница</span></a>
{nav}
</header>
<main id="main">
{body}
</main>
<footer class="foot">{foot}</footer>
</body>
</html>
"""

NAV = (
    ("/yookassa/payments", "Платежи"),
    ("/mailbox", "Почта"),
    ("/openai/calls", "Вызовы моделей"),
    ("/cbr", "Курсы"),
)
FOOT = "Учебный стенд на этом компьютере. Настоящих денег, банков и писем здесь нет."


def page(
    title: str,
    body: Markup,
    *,
    path: str = "",
    kind: str = "wide",
    status_code: int = 200,
    form_target: str = "",
) -> HTMLResponse:
    """Render the frame with a strict CSP. `form_target` is one more origin that a form may end at."""
    text = fill(
        FRAME, title=title, body=body, kind=kind, nav=_nav(path) if kind == "wide" else Markup(), foot=FOOT
    )
    policy = (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; "
        f"frame-ancestors 'none'; form-action 'self' {form_target}"
    )
    headers = {
        "Content-Security-Policy": policy.strip(),
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return HTMLResponse(text, status_code=status_code, headers=headers)


def _nav(path: str) -> Markup:
    links = join(
        fill(
            '<a href="{href}"{current}>{label}</a>',
            href=href,
            label=label,
            current=Markup(' aria-current="page"') if href == path else "",
        )
        for href, label in NAV
    )
    return fill('<nav aria-label="Разделы">{links}</nav>', links=links)
