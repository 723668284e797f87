"""The journal: who did what to whom, and the records of periodic work."""
