"""The ledger: the only truth about payments, on PostgreSQL or in one SQLite file."""
