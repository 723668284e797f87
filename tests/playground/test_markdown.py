"""What a model writes becomes harmless HTML, the same by pieces and as a whole."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground import markdown
from playground.markdown import BlockStream

ATTRIBUTE = re.compile(r"<[a-z0-9]+ ([^>]*)>")
PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    '<iframe src="https://evil.example"></iframe>',
    "<style>*{display:none}</style>",
    '<a href="https://ok.example" onclick="alert(1)">x</a>',
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java&#115;cript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:msgbox)",
    "[x](file:///etc/passwd)",
    "[x](//evil.example)",
    "[x](/app/topup)",
    "<javascript:alert(1)>",
    "![x](javascript:alert(1))",
    "![x](data:image/svg+xml;base64,PHN2Zz4=)",
    "![x](https://pic.example/a.png)",
    '![x](https://pic.example/a.png "t\\" onload=\\"alert(1)")',
    "[x]: javascript:alert(1)\n\n[x]",
    '```"><script>alert(1)</script>\ncode\n```',
    "```html\n<script>alert(1)</script>\n```",
    "`<script>alert(1)</script>`",
    "| <script> | b |\n|---|---|\n| <img onerror=x> | 2 |",
    "[a](https://ok.example 'x\" onmouseover=\"alert(1)')",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<!-- --><script>alert(1)</script>",
]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_that_runs_or_loads_survives(payload: str) -> None:
    html = markdown.render(payload)

    tags = set(re.findall(r"<\s*/?\s*([a-zA-Z!][\w-]*)", html))
    assert tags <= markdown.TAGS
    for attributes in ATTRIBUTE.findall(html):
        names = set(re.findall(r'([\w-]+)="', attributes))
        assert names <= {"href", "rel", "class", "title", "start"}
    assert not re.search(r'(href|src)="(?!https?://|mailto:)', html)


def test_dollar_sums_stay_text() -> None:
    assert markdown.render("от $5 и $7 за час") == "<p>от $5 и $7 за час</p>\n"


def test_picture_becomes_a_link_that_says_so() -> None:
    html = markdown.render("![кот](https://pic.example/a.png)")

    assert '<a href="https://pic.example/a.png" rel="noopener nofollow noreferrer">' in html
    assert "изображение: pic.example" in html


def test_link_that_hides_its_host_shows_it() -> None:
    hidden = markdown.render("[ваш банк](https://evil.example/login)")
    open_one = markdown.render("<https://plain.example/a>")

    assert "ваш банк</a> (evil.example)" in hidden
    assert open_one.count("plain.example") == 2  # the address and its text
    assert 'rel="noopener nofollow noreferrer"' in hidden


def test_picture_inside_a_link_keeps_one_link() -> None:
    html = markdown.render("[![x](https://pic.example/a.png)](https://evil.example)")

    assert html.count("<a ") == 1
    assert "(evil.example)" in html


def test_code_is_coloured_by_classes_only() -> None:
    html = markdown.render("```python\ndef f(): return '<b>'\n```")

    assert '<span class="k">def</span>' in html
    assert "&lt;b&gt;" in html
    assert "style=" not in html


def test_unknown_language_and_a_table_are_shown() -> None:
    assert "<pre><code" in markdown.render("```нетакого\nx < y\n```")
    assert "<th>a</th>" in markdown.render("| a | b |\n|---|---|\n| 1 | 2 |")
    assert "<s>было</s>" in markdown.render("~~было~~")


@pytest.mark.parametrize("code", ["x" * (markdown.MAX_COLOURED_CHARS + 1)])
def test_very_long_code_stays_plain(code: str) -> None:
    assert "<span" not in markdown.render(f"```python\n{code}\n```")


# Link definitions that come later are healed by the whole message at the end, so none stands here.
BLOCKS = st.sampled_from(
    [
        "Абзац с **жирным** и `кодом`.",
        "Две строки\nодного абзаца.",
        "# Заголовок",
        "Подчёркнутый\n===",
        "- раз\n- два\n\n  абзац пункта\n- три",
        "1. один\n2. два\n   - внутри",
        "1) другой\n2) список",
        "> цитата\nи её ленивое продолжение\n\n> другая",
        "```python\nprint('x')\n\n# пусто выше\n```",
        "~~~\n```\n~~~",
        "    код с отступом\n\n    и дальше",
        "| a | b |\n|---|:-:|\n| 1 | 2 |\n| 3 | 4 |",
        "текст\n| a | b |\n|---|---|\n| 1 | 2 |",
        "---",
        "***",
        "![x](https://pic.example/1.png) и [y](https://y.example)",
        "\\* не список\nстрока с пробелами  \nпосле переноса",
        "* * *\n* пункт",
        "",
        "```незакрытый\nблок",
        "<div>\nне html\n</div>",
    ]
)
SEPARATORS = st.sampled_from(["\n", "\n\n", "\n\n\n", "\r\n\r\n", "\r", " \n \n"])


@st.composite
def _texts(draw: st.DrawFn) -> str:
    blocks = draw(st.lists(BLOCKS, min_size=1, max_size=8))
    return "".join(block + draw(SEPARATORS) for block in blocks)


@settings(max_examples=150, deadline=None)
@given(text=_texts(), cuts=st.lists(st.integers(min_value=1, max_value=40), min_size=1, max_size=20))
def test_joined_blocks_equal_the_whole(text: str, cuts: list[int]) -> None:
    stream, joined, position, number = BlockStream(), "", 0, 0
    while position < len(text):
        size = cuts[number % len(cuts)]
        joined += stream.feed(text[position : position + size])
        position, number = position + size, number + 1
    joined += stream.finish()

    assert joined == markdown.render(text)


def test_earlier_link_definitions_reach_later_blocks() -> None:
    text = "[дом]: https://home.example\n\nПервый абзац.\n\nИдите [домой][дом].\n"
    stream = BlockStream()

    assert "".join(map(stream.feed, text)) + stream.finish() == markdown.render(text)


def test_block_is_given_out_once_the_next_has_begun() -> None:
    stream = BlockStream()

    assert stream.feed("Первый.\n") == ""
    assert stream.feed("\n") == ""
    assert stream.feed("Второй") == ""
    assert stream.feed(".\n") == "<p>Первый.</p>\n"
    assert stream.tail == "Второй.\n"
