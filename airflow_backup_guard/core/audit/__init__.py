"""Audits: pure checks over evidence, what they find, how that compares with the last audit, and the report of it."""
