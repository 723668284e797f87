"""Top-ups: checkout at the provider, its notifications, and the one way from a paid payment to the wallet."""
