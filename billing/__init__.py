"""Money: wallets, lots, holds, the ledger, prices and usage. The only place where money moves."""
