"""The Bank of Russia's list of daily rates."""
