"""Invoices for organisations: requisites, invoices paid from bank accounts, bank lines, closing documents."""
