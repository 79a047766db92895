"""Measurements of what a backup costs the database, one file per figure; see README.md."""
