"""The mailbox: takes any letter over SMTP, keeps the last five hundred, shows them as pages and JSON."""
