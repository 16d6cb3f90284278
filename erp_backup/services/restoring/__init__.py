"""Restoring: beside the live database, verified there, and only then in its place."""
