"""Back office of money: everything may be read, nothing can be added, changed or deleted here.

Rows of these tables come from the ledger's functions; a correction is a new entry made by an act.
"""

from billing.admin import costs, findings, limits, prices, usage, wallets, watch

__all__ = ["costs", "findings", "limits", "prices", "usage", "wallets", "watch"]
