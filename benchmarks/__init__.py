"""Rates of the ingest path beside those of others: `make bench`."""
