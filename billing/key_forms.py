"""Forms of the pages of API keys. What is wrong is said at the field."""

from datetime import date, datetime, timedelta
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import api_keys
from accounts.api_keys import Wish
from billing import keys
from billing.limit_forms import AMOUNT_CHARS, RoubleField
from plyrum import clock

MOST_NETWORKS = 50
FARTHEST = timedelta(days=3650)


class KeyForm(forms.Form):
    """What stays changeable: the name and the limit of a month in roubles."""

    name = forms.CharField(
        label=gettext_lazy("Название"),
        max_length=api_keys.NAME_CHARS,
        help_text=gettext_lazy("Где ключ работает: например, «Сервер» или «Ноутбук»."),
        widget=forms.TextInput({"autocomplete": "off"}),
    )
    month_limit = RoubleField(label=gettext_lazy("Лимит на месяц"), required=False, max_length=AMOUNT_CHARS)

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
            raise forms.ValidationError(_("Название пишется в одну строку."))
        return name


class NewKeyForm(KeyForm):
    expires_on = forms.DateField(
        label=gettext_lazy("Действует по"),
        required=False,
        widget=forms.DateInput({"type": "date"}, format="%Y-%m-%d"),
        help_text=gettext_lazy("По этот день включительно, по Москве. Пусто: пока не отзовёте."),
    )
    models = forms.MultipleChoiceField(
        label=gettext_lazy("Модели"), required=False, widget=forms.CheckboxSelectMultiple
    )
    ip_allow = forms.CharField(
        label=gettext_lazy("Адреса, с которых ключ работает"),
        required=False,
        max_length=MOST_NETWORKS * 50,
        widget=forms.Textarea({"rows": 3, "spellcheck": "false", "autocomplete": "off"}),
        help_text=gettext_lazy("По одному в строке: 203.0.113.7 или 203.0.113.0/24. Пусто: с любых."),
    )
    idempotency_key = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["models"]
        assert isinstance(field, forms.MultipleChoiceField)  # noqa: S101 - declared above
        labels = keys.models_on_offer()
        field.choices = [(model, labels[model]) for model in sorted(labels, key=lambda one: labels[one])]

    def clean_expires_on(self) -> date | None:
        day: date | None = self.cleaned_data["expires_on"]
        today = clock.day_of(clock.now())
        if day is not None and not today <= day <= today + FARTHEST:
            raise forms.ValidationError(_("Выберите день от сегодня до десяти лет вперёд."))
        return day

    def clean_ip_allow(self) -> tuple[str, ...]:
        found = []
        for line in self.cleaned_data["ip_allow"].replace(",", "\n").split():
            try:
                found.append(api_keys.network_of(line))
            except ValueError as error:
                text = _("%(line)s: это не адрес и не сеть вида 203.0.113.0/24.") % {"line": line[:50]}
                raise forms.ValidationError(text) from error
        if len(found) > MOST_NETWORKS:
            raise forms.ValidationError(_("Адресов не больше %(most)s.") % {"most": MOST_NETWORKS})
        return tuple(found)

    def wish(self) -> Wish:
        day: date | None = self.cleaned_data["expires_on"]
        ends: datetime | None = clock.start_of(day + timedelta(days=1)) if day is not None else None
        return Wish(
            self.cleaned_data["name"],
            ends,
            tuple(self.cleaned_data["models"]),
            self.cleaned_data["ip_allow"],
        )
