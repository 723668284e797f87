"""Letters to people: templates/emails/<name>/{subject.txt, body.txt, body.html} in the reader's language.

Used by the allauth adapter and by tasks. A letter has no remote pictures and no tracking; it says why it
came.
"""

from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.utils import translation


def compose(
    name: str, *, to: str, context: dict[str, Any], locale: str | None = None
) -> EmailMultiAlternatives:
    """Render the letter `name`; `locale` None keeps the language in force. The caller sends it."""
    facts = {**context, "site_url": settings.SITE_URL, "seller": settings.SELLER, "to": to}
    with translation.override(locale or translation.get_language() or "ru"):
        subject = " ".join(render_to_string(f"emails/{name}/subject.txt", facts).split())
        text = render_to_string(f"emails/{name}/body.txt", facts).strip() + "\n"
        html = render_to_string(f"emails/{name}/body.html", {**facts, "subject": subject})
    letter = EmailMultiAlternatives(subject, text, settings.DEFAULT_FROM_EMAIL, [to])
    letter.attach_alternative(html, "text/html")
    return letter
