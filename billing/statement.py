"""The customer's statement: each ledger entry with its name and an explanation, in the active language.

Called by the API and by the wallet page. Reads only; what stands in the ledger is never translated there.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

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
    """One line of the statement; a charge for an answer, and its reversal, name the run and its models."""

    entry: LedgerEntry
    label: str
    models: tuple[str, ...] = ()
    run_id: str = ""

    @property
    def description(self) -> str:
        """The whole line in words."""
        if not self.models:
            return self.label
        return _("%(label)s: %(models)s") % {"label": self.label, "models": ", ".join(self.models)}


def lines(entries: Sequence[LedgerEntry]) -> list[Line]:
    """The lines of `entries`, in their order; one query for the models of all, one more for reversals."""
    runs = _runs(entries)
    models = _models_by_run(set(runs.values()))
    return [_line(entry, runs.get(entry.id, ""), models) for entry in entries]


def _line(entry: LedgerEntry, run_id: str, models: dict[str, list[str]]) -> Line:
    return Line(entry, str(LABELS[entry.type]), tuple(models[run_id]) if run_id else (), run_id)


def _runs(entries: Sequence[LedgerEntry]) -> dict[UUID, str]:
    """The run behind each charge for an answer and behind each reversal of one, by the entry's id."""
    reversals = {UUID(entry.source_id): entry.id for entry in entries if entry.type == EntryType.REVERSAL}
    charges = LedgerEntry.objects.filter(pk__in=reversals, source_type="run") if reversals else ()
    found = {reversals[charge.id]: charge.source_id for charge in charges}
    return found | {entry.id: entry.source_id for entry in entries if _is_of_a_run(entry)}


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
