"""People: customers and operators, their sessions and tokens."""
