"""Kinds of damage to the books, as an owner with the guards lifted can do, and the checks that tell each.

Names in statements: customer, captured, released, open (holds), monthly, paid, untouched (lots), first, last
(entries), stranger (an id that nobody has). "rehash" computes the chain anew, as a knowing forger does.
"""

ROLE = "plyrum_app"

ENTRY = "UPDATE billing_ledgerentry SET {} WHERE id = %({})s;"
LOT = "UPDATE billing_lot SET {} WHERE id = %({})s;"
HOLD = "UPDATE billing_hold SET {} WHERE id = %({})s;"
WALLET = "UPDATE billing_wallet SET {} WHERE customer_id = %(customer)s;"
USAGE = "UPDATE billing_usageevent SET {} WHERE customer_id = %(customer)s;"

NEW_ENTRY = """
INSERT INTO billing_ledgerentry (id, customer_id, seq, type, debit_account, credit_account, amount_micro_rub,
            balance_after_micro_rub, key, source_type, source_id, lot_ids, lot_amounts, effective_at,
            created_at, hash)
VALUES (%(stranger)s, %(stranger)s, 1, 'bonus', 'promo', 'wallet', 5, 5, %(stranger)s, 'x', 'x', '{}', '{}',
        now(), now(),
        ledger_hash('', %(stranger)s, 1, %(stranger)s, 'promo', 'wallet', 5, 5, %(stranger)s::text));
"""
NEW_LOT = """
INSERT INTO billing_lot (customer_id, kind, spend_class, amount_micro_rub, source_entry_id, created_at)
VALUES (%(stranger)s, 'bonus', 2, 5, %(stranger)s, now());
"""
# The wallet counts on its lots as they are by now.
LAID_ANEW = """
UPDATE billing_wallet w SET (lot_ids, lot_remaining, lot_reserved, lot_ends) = (
       SELECT array_agg(l.id ORDER BY l.spend_class, l.expires_at, l.id),
              array_agg(l.remaining_micro_rub ORDER BY l.spend_class, l.expires_at, l.id),
              array_agg(l.reserved_micro_rub ORDER BY l.spend_class, l.expires_at, l.id),
              array_agg(l.expires_at ORDER BY l.spend_class, l.expires_at, l.id)
         FROM billing_creditlot l WHERE l.id = ANY (w.lot_ids)) WHERE w.customer_id = %(customer)s;
"""


def left(what: str, lot: str, amount: str) -> str:
    """What remains of a lot or is reserved of it becomes another amount."""
    place = f"lot_{what}[array_position(lot_ids, %({lot})s)]"
    return f"UPDATE billing_wallet SET {place} = {amount} WHERE customer_id = %(customer)s;"  # noqa: S608


def changed(what: str, lot: str, by: str) -> str:
    return left(what, lot, f"lot_{what}[array_position(lot_ids, %({lot})s)] {by}")


UNNUMBERED_ENTRY = """
INSERT INTO billing_ledgerentry (id, customer_id, type, debit_account, credit_account, amount_micro_rub, key,
            source_type, source_id, lot_ids, lot_amounts, effective_at, created_at)
VALUES (%(stranger)s, %(customer)s, 'refund', 'wallet', 'promo', 5, %(stranger)s, 'x', 'x', ARRAY[%(paid)s],
        ARRAY[5], now(), now());
"""

LARGE_DEBT = """
INSERT INTO billing_ledgerentry (id, type, debit_account, credit_account, amount_micro_rub, key, source_type,
            source_id, lot_ids, lot_amounts, effective_at, created_at)
VALUES (%(stranger)s, 'debt', 'receivable', 'provider_clearing', 101, 'chargeback:x:debt:' || %(stranger)s,
        'debt', %(customer)s, '{}', '{}', now(), now());
"""

REVERSAL = """
INSERT INTO billing_ledgerentry (id, customer_id, seq, type, debit_account, credit_account, amount_micro_rub,
            balance_after_micro_rub, key, source_type, source_id, lot_ids, lot_amounts, effective_at,
            created_at, hash)
SELECT %(stranger)s, customer_id, seq + 1, 'reversal', 'revenue', 'wallet', 5, balance_micro_rub + 5,
       'reversal:' || %(stranger)s, 'entry', %(stranger)s, ARRAY[%(paid)s], ARRAY[5], now(), now(), ''
  FROM billing_wallet WHERE customer_id = %(customer)s;
"""

DAMAGE = {
    # The balance is told twice, by entries and by lots, so a false balance breaks with both.
    "balance raised": (WALLET.format("balance_micro_rub = balance_micro_rub + 1"), {"V01", "V08"}),
    "balance raised with a lot": (
        WALLET.format("balance_micro_rub = balance_micro_rub + 1")
        + LOT.format("amount_micro_rub = 501", "paid")
        + changed("remaining", "paid", "+ 1"),
        {"V01", "V40"},
    ),
    "amount of an entry changed": (
        ENTRY.format("amount_micro_rub = 499", "last"),
        {"V01", "V02", "V05", "V10", "V13", "V28"},
    ),
    "balance after an entry changed": (
        ENTRY.format("balance_after_micro_rub = balance_after_micro_rub + 1", "last") + "rehash",
        {"V02"},
    ),
    "entry renumbered": (
        ENTRY.format("seq = seq + 1", "last") + WALLET.format("seq = seq + 1") + "rehash",
        {"V03"},
    ),
    "head runs ahead": (WALLET.format("seq = seq + 1"), {"V04"}),
    "head hash changed": (WALLET.format("head_hash = sha256('x')"), {"V04"}),
    "last entry deleted": (
        "DELETE FROM billing_ledgerentry WHERE id = %(last)s",
        {"V01", "V04", "V09", "V13", "V28"},
    ),
    "key of an entry changed": (ENTRY.format("key = key || '-'", "first"), {"V05"}),
    "balance of an entry moved into its key": (
        ENTRY.format("key = balance_after_micro_rub || '|' || key, balance_after_micro_rub = NULL", "first"),
        {"V02", "V05", "V07"},
    ),
    "hash of an entry changed": (ENTRY.format("hash = sha256('x')", "first"), {"V05"}),
    "side of an entry changed": (ENTRY.format("credit_account = 'promo'", "last"), {"V05"}),
    "entry without a wallet": (NEW_ENTRY + NEW_LOT, {"V07", "V09", "V41"}),
    "entry without a number": (
        UNNUMBERED_ENTRY
        + WALLET.format("balance_micro_rub = balance_micro_rub - 5")
        + changed("remaining", "paid", "- 5"),
        {"V07"},
    ),
    "more reserved than remains": (
        left("reserved", "untouched", "75")
        + HOLD.format(
            "lot_ids = lot_ids || %(untouched)s, lot_amounts = lot_amounts || 75::bigint,"
            " amount_micro_rub = amount_micro_rub + 75",
            "open",
        ),
        {"V42"},
    ),
    "more remains than came": (
        left("remaining", "untouched", "71"),
        {"V08", "V09", "V42"},
    ),
    "capture from a lot that was not set aside": (
        HOLD.format("lot_ids = ARRAY[%(monthly)s, %(untouched)s]", "captured"),
        {"V43"},
    ),
    "captured more than held": (
        HOLD.format("amount_micro_rub = 105, lot_amounts = ARRAY[100, 5]", "captured"),
        {"V13", "V43"},
    ),
    "money moved between lots": (
        changed("remaining", "untouched", "- 1") + changed("remaining", "paid", "+ 1"),
        {"V09"},
    ),
    "money taken from a lot": (left("remaining", "untouched", "69"), {"V08", "V09"}),
    "negative use of a lot": (
        ENTRY.format(
            "lot_ids = ARRAY[%(monthly)s, %(paid)s, %(paid)s], lot_amounts = ARRAY[100, 25, -5]", "last"
        ),
        {"V10", "V43"},
    ),
    "uses do not make the debit": (ENTRY.format("lot_amounts = ARRAY[100, 19]", "last"), {"V09", "V10"}),
    "uses without amounts": (
        ENTRY.format("lot_ids = lot_ids || %(untouched)s", "last"),
        {"V10", "V43"},
    ),
    "credit that takes": (
        ENTRY.format("lot_ids = ARRAY[%(untouched)s], lot_amounts = ARRAY[5]", "first"),
        {"V09", "V10"},
    ),
    "credit that takes and gives back": (
        ENTRY.format("lot_ids = ARRAY[%(untouched)s, %(untouched)s], lot_amounts = ARRAY[5, -5]", "first"),
        {"V10"},
    ),
    "reserve without a hold": (left("reserved", "untouched", "1"), {"V11"}),
    "reserve lost": (changed("reserved", "paid", "- 1"), {"V11"}),
    "open hold is larger than its shares": (HOLD.format("amount_micro_rub = 61", "open"), {"V12"}),
    "share in a lot of somebody else": (
        LOT.format("customer_id = %(stranger)s, source_entry_id = source_entry_id", "monthly"),
        {"V10", "V12", "V40"},
    ),
    "captured amount changed": (HOLD.format("captured_micro_rub = 121", "captured"), {"V13"}),
    "captured hold called released": (HOLD.format("status = 'released'", "captured"), {"V13"}),
    "released hold called captured": (HOLD.format("status = 'captured'", "released"), {"V13"}),
    "open hold with an end": (HOLD.format("resolved_at = now()", "open"), {"V13"}),
    "entry of a hold that is not": (
        ENTRY.format("id = %(stranger)s, hold_id = %(stranger)s, key = 'capture:' || %(stranger)s", "last")
        + USAGE.format("ledger_entry_id = %(stranger)s")
        + "rehash",
        {"V13"},
    ),
    "charge under an id of its own": (
        ENTRY.format("id = %(stranger)s", "last") + USAGE.format("ledger_entry_id = %(stranger)s") + "rehash",
        {"V13"},
    ),
    "charge under another key": (ENTRY.format("key = key || '-'", "last") + "rehash", {"V13"}),
    "forgotten hold": (HOLD.format("expires_at = now() - interval '6 minutes'", "open"), {"V14"}),
    "reversal of nothing": (
        REVERSAL
        + WALLET.format("balance_micro_rub = balance_micro_rub + 5, seq = seq + 1")
        + changed("remaining", "paid", "+ 5")
        + "rehash",
        {"V17"},
    ),
    "debt repaid that nobody owed": (
        "SELECT ledger_debit_one(%(stranger)s, %(customer)s, 5, 'chargeback', 'receivable',"
        " %(stranger)s::text, 'debt', %(customer)s::text)",
        {"V45"},
    ),
    "debt moved as what it is not": (
        "INSERT INTO billing_ledgerentry (id, type, debit_account, credit_account, amount_micro_rub, key,"
        " source_type, source_id, lot_ids, lot_amounts, effective_at, created_at)"
        " VALUES (%(stranger)s, 'payout', 'bank', 'receivable', 5, %(stranger)s, 'debt', %(customer)s,"
        " '{}', '{}', now(), now())",
        {"V48"},
    ),
    "payment disputed above its amount": (  # the first entry is of 100
        ENTRY.format("key = 'topup:' || %(stranger)s", "first") + "rehash;" + LARGE_DEBT,
        {"V24"},
    ),
    "debt beside free money that nobody collected": (
        "INSERT INTO billing_ledgerentry (id, type, debit_account, credit_account, amount_micro_rub, key,"
        " source_type, source_id, lot_ids, lot_amounts, effective_at, created_at)"
        " VALUES (%(stranger)s, 'debt', 'receivable', 'provider_clearing', 5, %(stranger)s, 'debt',"
        " %(customer)s, '{}', '{}', now(), now() - interval '11 minutes');"
        "UPDATE billing_ledgerentry SET created_at = created_at - interval '11 minutes'"
        " WHERE customer_id = %(customer)s;"
        "UPDATE billing_lot SET created_at = created_at - interval '11 minutes'"
        " WHERE customer_id = %(customer)s;"
        "UPDATE billing_hold SET resolved_at = resolved_at - interval '11 minutes'"
        " WHERE customer_id = %(customer)s",
        {"V36"},
    ),
    "expired lot not swept": (
        LOT.format("expires_at = now() - interval '25 hours'", "paid") + LAID_ANEW,
        {"V15"},
    ),
    "better lot passed over": (
        LOT.format("spend_class = 1, created_at = now() - interval '1 hour'", "untouched") + LAID_ANEW,
        {"V23"},
    ),
    "cost changed": (USAGE.format("cost_micro_rub = cost_micro_rub + 1"), {"V27"}),
    "tokens changed": (USAGE.format("output_tokens = 1"), {"V27"}),
    "price of usage unknown": (USAGE.format("price_version_id = 0"), {"V27"}),
    "price changed": (
        "UPDATE billing_priceversion SET markup_bp = 20000 WHERE sku = 'tests/one-micro-a-token'",
        {"V27"},
    ),
    "charge changed": (USAGE.format("charged_micro_rub = charged_micro_rub - 1"), {"V28"}),
    "usage deleted": ("DELETE FROM billing_usageevent WHERE customer_id = %(customer)s", {"V28"}),
    "usage of another entry": (USAGE.format("ledger_entry_id = %(first)s"), {"V28"}),
    "usage charged without an entry": (USAGE.format("ledger_entry_id = NULL"), {"V28"}),
    "usage charged above its cost": (
        USAGE.format("cost_micro_rub = 119, input_tokens = 119"),
        {"V28"},
    ),
    "roll-up of nothing": (
        "INSERT INTO billing_usagerollup (customer_id, day, model, kind, requests, input_tokens,"
        " output_tokens, cached_input_tokens, cache_write_tokens, reasoning_tokens, images, cost_micro_rub,"
        " charged_micro_rub) VALUES (%(customer)s, '2026-01-01', 'x', 'chat', 1, 0, 0, 0, 0, 0, 0, 0, 0)",
        {"V46"},
    ),
    "day closed without its usage": (
        "INSERT INTO billing_usageday (day, barrier, closed_at) VALUES ('9000-01-01', 0, now())",
        {"V46"},
    ),
    "time runs backwards": (ENTRY.format("created_at = created_at - interval '1 hour'", "last"), {"V33"}),
    "lot of another inflow": (LOT.format("source_entry_id = %(stranger)s", "paid"), {"V40"}),
    "lot deleted": ("DELETE FROM billing_lot WHERE id = %(untouched)s", {"V08", "V40", "V47"}),
    "lot called spent": (LOT.format("is_spent = true", "untouched"), {"V41", "V47"}),
    "spent lot called alive": (LOT.format("is_spent = false", "monthly"), {"V41"}),
    "lot with another end": (LOT.format("expires_at = now() + interval '1 day'", "untouched"), {"V47"}),
    "spent lot kept by its wallet": (
        "UPDATE billing_wallet SET lot_ids = lot_ids || %(monthly)s,"
        " lot_remaining = lot_remaining || 0::bigint, lot_reserved = lot_reserved || 0::bigint,"
        " lot_ends = lot_ends || NULL::timestamptz WHERE customer_id = %(customer)s",
        {"V47"},
    ),
    "lots out of their order": (LOT.format("spend_class = 1", "untouched"), {"V47"}),
    "lot forgotten by its wallet": (
        "UPDATE billing_wallet SET lot_ids = lot_ids[2:], lot_remaining = lot_remaining[2:],"
        " lot_reserved = lot_reserved[2:], lot_ends = lot_ends[2:] WHERE customer_id = %(customer)s",
        {"V08", "V09", "V11", "V41"},
    ),
}

GUARD_DAMAGE = {
    "trigger off": ("ALTER TABLE billing_ledgerentry DISABLE TRIGGER frozen", "V20"),
    "trigger sleeps in replica mode": ("ALTER TABLE billing_usageevent ENABLE TRIGGER frozen", "V20"),
    "trigger of another app off": (
        "ALTER TABLE plans_purchase DISABLE TRIGGER plans_purchase_is_append_only",
        "V20",
    ),
    "trigger of another app sleeps in replica mode": (
        "ALTER TABLE legal_acceptance ENABLE TRIGGER legal_acceptance_is_append_only",
        "V20",
    ),
    "rule of another app dropped": (
        "ALTER TABLE payments_payment DROP CONSTRAINT payments_payment_amount_is_positive",
        "V21",
    ),
    "rule for some rows of another app dropped": ("DROP INDEX payments_payment_one_per_client_key", "V21"),
    "role may rewrite a document": (f"GRANT UPDATE ON payments_closingdocument TO {ROLE}", "V22"),
    "role may empty the journal": (f"GRANT TRUNCATE ON auditlog_auditevent TO {ROLE}", "V22"),
    "trigger dropped": ("DROP TRIGGER not_truncated ON billing_priceversion", "V20"),
    "trigger for some rows only": (
        "DROP TRIGGER frozen ON billing_fxrate;"
        "CREATE TRIGGER frozen BEFORE UPDATE OR DELETE ON billing_fxrate FOR EACH ROW"
        " WHEN (OLD.currency = 'XXX') EXECUTE FUNCTION ledger_refuse_change();"
        "ALTER TABLE billing_fxrate ENABLE ALWAYS TRIGGER frozen",
        "V20",
    ),
    "trigger refuses nothing": (
        "CREATE OR REPLACE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN RETURN NEW; END'",
        "V20",
    ),
    "constraint dropped": ("ALTER TABLE billing_fxrate DROP CONSTRAINT billing_fxrate_positive", "V21"),
    "constraint not validated": (
        "ALTER TABLE billing_fxrate DROP CONSTRAINT billing_fxrate_positive;"
        "ALTER TABLE billing_fxrate ADD CONSTRAINT billing_fxrate_positive CHECK (micro_rub > 0) NOT VALID",
        "V21",
    ),
    "amount may be negative": (
        "ALTER TABLE billing_wallet ALTER COLUMN balance_micro_rub TYPE bigint",
        "V21",
    ),
    "check of amounts dropped": ("ALTER DOMAIN micro_rub DROP CONSTRAINT micro_rub_check", "V21"),
    "check of amounts weakened": (
        "ALTER DOMAIN micro_rub DROP CONSTRAINT micro_rub_check;"
        "ALTER DOMAIN micro_rub ADD CONSTRAINT micro_rub_check CHECK (VALUE >= -1)",
        "V21",
    ),
    "check of amounts not validated": (
        "ALTER DOMAIN micro_rub DROP CONSTRAINT micro_rub_check;"
        "ALTER DOMAIN micro_rub ADD CONSTRAINT micro_rub_check CHECK (VALUE >= 0) NOT VALID",
        "V21",
    ),
    "role may rewrite history": (f"GRANT UPDATE ON billing_ledgerentry TO {ROLE}", "V22"),
    "role may rewrite one column": (f"GRANT UPDATE (key) ON billing_ledgerentry TO {ROLE}", "V22"),
    "everybody may delete history": ("GRANT DELETE ON billing_usageevent TO PUBLIC", "V22"),
    "role may empty history": (f"GRANT TRUNCATE ON billing_fxrate TO {ROLE}", "V22"),
    "role may add to a wallet": (f"GRANT INSERT ON billing_wallet TO {ROLE}", "V22"),
    "role may reserve by hand": (f"GRANT UPDATE ON billing_lot TO {ROLE}", "V22"),
    "role may write a view": (f"GRANT UPDATE ON billing_creditlot TO {ROLE}", "V22"),
    "role may lay triggers": (f"GRANT TRIGGER ON billing_hold TO {ROLE}", "V22"),
    "role is a superuser": (f"ALTER ROLE {ROLE} SUPERUSER", "V22"),
    "function works as its caller": ("ALTER FUNCTION ledger_hold(jsonb) SECURITY INVOKER", "V37"),
    "everybody may write any line": ("ALTER FUNCTION ledger_post SECURITY DEFINER", "V37"),
    "function with an open search path": ("ALTER FUNCTION ledger_settle(jsonb) RESET search_path", "V37"),
    "function with an old snapshot": ("ALTER FUNCTION ledger_credit(jsonb) STABLE", "V37"),
}

# A day is closed first, with a debt in it. V44 looks at all wallets, so these are judged by themselves.
CLOSE_A_DAY = """
INSERT INTO billing_ledgerentry (id, type, debit_account, credit_account, amount_micro_rub, key, source_type,
            source_id, lot_ids, lot_amounts, effective_at, created_at)
VALUES (%(stranger)s, 'debt', 'receivable', 'provider_clearing', 5, 'test:' || %(customer)s, 'debt',
        %(customer)s, '{}', '{}', now(), now());
INSERT INTO billing_dailyroot (day, root, wallets, entries, created_at)
SELECT '9000-01-01', root, wallets, entries, now() FROM ledger_root('9000-01-01');
"""
ROOT_DAMAGE = {
    "past rewritten, chain and head computed anew": ENTRY.format("key = key || '-'", "first") + "rehash",
    "wallet deleted with all that it had": """
DELETE FROM billing_usageevent WHERE customer_id = %(customer)s;
DELETE FROM billing_ledgerentry WHERE customer_id = %(customer)s;
DELETE FROM billing_lot WHERE customer_id = %(customer)s;
DELETE FROM billing_hold WHERE customer_id = %(customer)s;
DELETE FROM billing_wallet WHERE customer_id = %(customer)s;
""",
    "debt deleted": "DELETE FROM billing_ledgerentry"
    " WHERE customer_id IS NULL AND source_id = %(customer)s::text",
    "debt made somebody else's": "UPDATE billing_ledgerentry SET source_id = %(stranger)s"
    " WHERE customer_id IS NULL AND source_id = %(customer)s::text",
    "root changed": "UPDATE billing_dailyroot SET root = sha256('x')",
    "count in a root changed": "UPDATE billing_dailyroot SET entries = entries + 1",
}

# A hold is counted first. V29 looks at all wallets, so these are judged by themselves.
COUNTER_DAMAGE = {
    "counter raised": "UPDATE billing_limitcounter SET spent_micro_rub = 1 WHERE subject = %s",
    "counter lost": "DELETE FROM billing_limitcounter WHERE subject = %s",
    "hold uncounted": "UPDATE billing_hold SET counter_ids = '{}' WHERE counter_ids = ARRAY (SELECT id"
    " FROM billing_limitcounter WHERE subject = %s)",
}
