"""Output files that the ledger can vouch for."""
