"""Customers in lists of the back office: shown and found by their e-mail, for those who may see people."""

from typing import Any

from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest

from accounts.models import User


class CustomerByEmail:
    """For an admin page that lists the column `customer` and shows it in `customer_words`."""

    customer_field = "customer_id"

    def get_queryset(self: Any, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)  # type: ignore[misc]
        if self._names_customers(request):
            email = User.objects.filter(pk=OuterRef(self.customer_field)).values("email")
            rows = rows.annotate(customer_email=Subquery(email))
        return rows

    def get_search_results(
        self: Any, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        found, has_duplicates = super().get_search_results(request, queryset, search_term)  # type: ignore[misc]
        if "@" in search_term and self._names_customers(request):
            known = User.objects.filter(email=search_term.strip().lower()).values_list("pk", flat=True)
            found |= queryset.filter(**{f"{self.customer_field}__in": list(known)})
        return found, has_duplicates

    def _names_customers(self: Any, request: HttpRequest) -> bool:
        return "customer" in self.list_display and bool(request.user.has_perm("accounts.view_user"))


def customer_words(row: Any, customer_id: Any) -> str:
    """The e-mail of a row's customer as `CustomerByEmail` read it, else the id."""
    return str(getattr(row, "customer_email", None) or customer_id)
