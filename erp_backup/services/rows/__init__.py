"""Bringing deleted rows back: what is missing beside what is there, by primary key, and all that belongs to it."""
