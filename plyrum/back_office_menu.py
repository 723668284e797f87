"""Parts of the back office's menu, for the setting UNFOLD: a title and the pages below it."""

from typing import Any

from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _


def _page(title: Any, icon: str, model: str) -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": reverse_lazy(f"admin:{model}_changelist")}


INVOICES = {
    "title": _("Счета и УПД"),
    "items": [
        _page(_("Организации"), "apartment", "payments_organisation"),
        _page(_("Счета"), "request_quote", "payments_invoice"),
        _page(_("Выписки банка"), "upload_file", "payments_bankstatement"),
        _page(_("Банковские строки"), "account_balance", "payments_bankline"),
        _page(_("Решения о строках"), "rule", "payments_bankdecision"),
        _page(_("Закрывающие документы"), "description", "payments_closingdocument"),
    ],
}
