"""The deterministic answer of the sandbox's models: a pure function of model, question and bounds.

Called by `answers`. Restates the question in Markdown with a list and a block of code, in the question's
language, so that a chat page has something to render. Tokens are whole quarters of UTF-8 bytes, rounded up.
"""

import re
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

BYTES_PER_TOKEN = 4
PICTURE_TOKENS = 85
QUOTED_CHARACTERS = 280
PIECE = re.compile(r"\s*\S+(?:[^\S\n]+\S+)?\n*", re.UNICODE)
CYRILLIC = re.compile(r"[А-Яа-яЁё]")


@dataclass(frozen=True, slots=True)
class Question:
    """What the text depends on: the last user message, cut, and counts of the whole conversation."""

    quoted: str
    words: int
    messages: int
    pictures: int

    @property
    def is_russian(self) -> bool:
        return bool(CYRILLIC.search(self.quoted)) or not self.quoted


def tokens(text: str) -> int:
    """Count tokens: bytes of UTF-8 divided by four, rounded up."""
    size = len(text) if text.isascii() else len(text.encode())
    return -(-size // BYTES_PER_TOKEN)


def prompt_tokens(messages: list[Json]) -> int:
    """Count the tokens of all message texts together, and 85 for each picture."""
    size, pictures = 0, 0
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            size += len(content) if content.isascii() else len(content.encode())
        elif content:
            for part in content:
                size += len(part.get("text", "").encode())
                pictures += part["type"] == "image_url"
    return -(-size // BYTES_PER_TOKEN) + pictures * PICTURE_TOKENS


def question_of(messages: list[Json]) -> Question:
    """Find the last user message and count what the answer mentions."""
    asked, pictures = "", 0
    for message in reversed(messages):
        if message["role"] == "user":
            asked, pictures = _flatten(message["content"])
            break
    return Question(
        quoted=" ".join(asked[: QUOTED_CHARACTERS * 2].split())[:QUOTED_CHARACTERS],
        words=asked.count(" ") + 1 if asked else 0,
        messages=len(messages),
        pictures=pictures,
    )


def write(model: str, question: Question) -> str:
    """Write the whole answer of a model, before any bound."""
    parts = _russian(model, question) if question.is_russian else _english(model, question)
    return "\n\n".join(parts) + "\n"


def think(question: Question) -> str:
    """Write the visible reasoning of the reasoning model."""
    if question.is_russian:
        return (
            f"Читаю вопрос: слов {question.words}, сообщений {question.messages}. "
            "Сначала повторю его своими словами, потом перечислю то, что видно, и дам короткий пример."
        )
    return (
        f"Reading the question: {question.words} words, {question.messages} messages. "
        "First I restate it, then list what is visible, then give a short example."
    )


def cut(text: str, limit: int | None) -> tuple[str, bool]:
    """Cut to `limit` tokens at a whole character; answer the text and whether it was cut."""
    if limit is None or tokens(text) <= limit:
        return text, False
    return text.encode()[: limit * BYTES_PER_TOKEN].decode(errors="ignore"), True


def cut_at_stop(text: str, stop: tuple[str, ...]) -> str:
    """End before the first stop sequence."""
    places = [place for place in (text.find(item) for item in stop if item) if place >= 0]
    return text[: min(places)] if places else text


def pieces(text: str) -> tuple[str, ...]:
    """Split into the content of chunks: about two words each, nothing lost."""
    found = tuple(PIECE.findall(text))
    missing = text[sum(map(len, found)) :]
    return (*found, missing) if missing else found


def _flatten(content: Any) -> tuple[str, int]:
    if isinstance(content, str):
        return content, 0
    texts = [part.get("text", "") for part in content or []]
    return " ".join(text for text in texts if text), sum(
        part["type"] == "image_url" for part in content or []
    )


def _russian(model: str, question: Question) -> list[str]:
    asked = f"«{question.quoted}»" if question.quoted else "пустое сообщение"
    parts = [
        f"Вы спросили: {asked}.",
        "Отвечает модель песочницы: текст составлен по правилу, "
        "поэтому на один и тот же вопрос он всегда одинаков.",
        "**Что видно из запроса**",
        "\n".join(
            [
                f"- слов в вопросе: {question.words};",
                f"- сообщений в переписке: {question.messages};",
                *([f"- картинок: {question.pictures};"] if question.pictures else []),
                f"- модель: `{model}`.",
            ]
        ),
        _code(question, "Считаем слова в вопросе"),
    ]
    if model == "sandbox-large":
        parts += [
            "### Подробнее",
            "1. Сначала приложение резервирует деньги: не больше, чем может стоить ответ.",
            "2. Потом модель отвечает, и текст приходит частями.",
            "3. В конце списывается точная цена, остаток резерва возвращается.",
            "| Шаг | Что происходит | Деньги |\n|---|---|---|\n| резерв | оценка сверху | держим |\n"
            "| ответ | текст по частям | держим |\n| расчёт | точная цена | списываем |",
            "> Большая модель отвечает длиннее и медленнее маленькой, чтобы разницу было видно.",
        ]
    return parts


def _english(model: str, question: Question) -> list[str]:
    parts = [
        f"You asked: “{question.quoted}”.",
        "This is a sandbox model: the text follows a rule, so the same question always gets the same answer.",
        "**What the request shows**",
        "\n".join(
            [
                f"- words in the question: {question.words};",
                f"- messages in the conversation: {question.messages};",
                *([f"- pictures: {question.pictures};"] if question.pictures else []),
                f"- model: `{model}`.",
            ]
        ),
        _code(question, "Count the words of the question"),
    ]
    if model == "sandbox-large":
        parts += [
            "### In detail",
            "1. First the application reserves money: at most what the answer can cost.",
            "2. Then the model answers, and the text arrives in parts.",
            "3. At the end the exact price is charged and the rest of the reserve is released.",
            "| Step | What happens | Money |\n|---|---|---|\n| reserve | upper estimate | held |\n"
            "| answer | text in parts | held |\n| settlement | exact price | charged |",
            "> The large model answers longer and slower than the small one, so that the difference shows.",
        ]
    return parts


def _code(question: Question, comment: str) -> str:
    quoted = question.quoted[:60].replace("\\", " ").replace('"', "'").replace("`", "'")
    return f'```python\n# {comment}\nquestion = "{quoted}"\nprint(len(question.split()))\n```'
