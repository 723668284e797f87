"""The customer's statement: each ledger entry with its name and an explanation, in the active language.

Called by the API and by the wallet page. Reads only; what stands in the ledger is never translated there.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing.models import EntryType, LedgerEntry, UsageEvent

LABELS: dict[str, Promise | str] = {
    EntryType.TOPUP: gettext_lazy("Пополнение"),
    EntryType.USAGE_DEBIT: gettext_lazy("Ответ модели"),
    EntryType.REFUND: gettext_lazy("Возврат денег"),
    EntryType.ADMIN_ADJUSTMENT: gettext_lazy("Корректировка"),
    EntryType.BONUS: gettext_lazy("Бонус"),
    EntryType.PLAN_GRANT: gettext_lazy("Начисление по тарифу"),
    EntryType.PLAN_PURCHASE: gettext_lazy("Покупка тарифа"),
    EntryType.ROLLOVER: gettext_lazy("Перенос остатка"),
    EntryType.EXPIRY: gettext_lazy("Срок истёк"),
    EntryType.CHARGEBACK: gettext_lazy("Опротестованный платёж"),
    EntryType.REVERSAL: gettext_lazy("Отмена списания"),
}


@dataclass(frozen=True)
class Line:
    """One line of the statement; `models` are those that answered, empty unless it is a debit for answers."""

    entry: LedgerEntry
    label: str
    models: tuple[str, ...]

    @property
    def description(self) -> str:
        """The whole line in words."""
        if not self.models:
            return self.label
        return _("%(label)s: %(models)s") % {"label": self.label, "models": ", ".join(self.models)}


def lines(entries: Sequence[LedgerEntry]) -> list[Line]:
    """The lines of `entries`, in their order; one query for all of them."""
    models = _models_by_run({entry.source_id for entry in entries if _is_of_a_run(entry)})
    return [
        Line(entry, str(LABELS[entry.type]), tuple(models[entry.source_id]) if _is_of_a_run(entry) else ())
        for entry in entries
    ]


def _is_of_a_run(entry: LedgerEntry) -> bool:
    return entry.type == EntryType.USAGE_DEBIT and entry.source_type == "run"


def _models_by_run(run_ids: set[str]) -> dict[str, list[str]]:
    """Which models worked in each run, in the order of work."""
    found: dict[str, list[str]] = defaultdict(list)
    rows = UsageEvent.objects.filter(run_id__in=run_ids).order_by("id")
    for run_id, model in rows.values_list("run_id", "model"):
        if model not in found[str(run_id)]:
            found[str(run_id)].append(model)
    return found
