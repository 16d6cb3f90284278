"""Bringing in archives that were made elsewhere: by pg_dump, by shell scripts, by sqlite3, by django-dbbackup.

They are recognised by what is in them, never by their names; nothing in them is run; and they are stored under names
and with manifests of ours that say they were imported.
"""
