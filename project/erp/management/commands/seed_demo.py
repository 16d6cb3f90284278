"""manage.py seed_demo: fill the demo with data."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.hashers import make_password
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from project.erp.seed.people import ADMIN_EMAIL
from project.erp.seed.plan import Plan
from project.erp.seed.run import empty, fill, is_empty

DEMO_PASSWORD = "admin"  # noqa: S105  printed, and only ever for a demo


class Command(BaseCommand):
    """Writes users, items, orders and stock movements; the same arguments make the same data."""

    help = "Fill the empty demo with users, items, orders and stock movements that add up."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add how much, from which seed, until when."""
        parser.add_argument("--users", type=_positive, default=25, help="Users, administrator included (25).")
        parser.add_argument("--items", type=_positive, default=500, help="Items (500).")
        parser.add_argument(
            "--transactions",
            type=_positive,
            default=5000,
            help="Stock transactions (5000); each has about three ledger entries.",
        )
        parser.add_argument("--seed", type=int, default=1, help="Another number makes other data (1).")
        parser.add_argument(
            "--until",
            type=_moment,
            help="The end of the two years of data, ISO 8601, UTC unless it says otherwise (now).",
        )
        parser.add_argument("--flush", action="store_true", help="Delete all data of the ERP first.")
        parser.add_argument(
            "--noinput", "--no-input", action="store_false", dest="interactive", help="Do not ask before deleting."
        )
        parser.add_argument(
            "--admin-password-env",
            metavar="VARIABLE",
            help=f"The environment variable with the password of {ADMIN_EMAIL}.",
        )
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help="The alias of the database to fill.")

    def handle(
        self, *, database: str, flush: bool, interactive: bool, admin_password_env: str | None, **options: Any
    ) -> None:
        """Empty the demo if asked, then fill it."""
        plan = Plan(
            users=options["users"],
            items=options["items"],
            transactions=options["transactions"],
            seed=options["seed"],
            until=options["until"] or timezone.now().replace(microsecond=0),
            admin_password_hash=_password_hash(admin_password_env),
        )
        if not is_empty(database):
            self._empty(database, flush=flush, interactive=interactive)
        report = self.stdout.write if options["verbosity"] else _say_nothing
        fill(plan, using=database, report=report)
        known = f"the password in ${admin_password_env}" if admin_password_env else f"password {DEMO_PASSWORD!r}"
        warning = "" if admin_password_env else " (for a demo only: change it where others can reach it)"
        report(self.style.SUCCESS(f"Log in as {ADMIN_EMAIL} with {known}{warning}."))

    def _empty(self, database: str, *, flush: bool, interactive: bool) -> None:
        if not flush:
            raise CommandError("The ERP has data already. Add --flush to delete all of it first.")
        if interactive:
            self._confirm(str(connections[database].settings_dict["NAME"]))
        empty(database)

    def _confirm(self, name: str) -> None:
        if not sys.stdin.isatty():
            raise CommandError("There is no terminal to ask for confirmation; add --noinput to delete the data.")
        answer = input(f"This deletes all data of the ERP. Type the database's name ({name}) to go on: ")
        if answer != name:
            raise CommandError("Nothing was deleted: that is not the database's name.")


def _say_nothing(_message: str) -> None:
    """Keep quiet, as --verbosity=0 asks."""


def _password_hash(variable: str | None) -> str:
    if variable is None:
        # A fixed salt, because equal arguments make equal data and this password is no secret.
        return make_password(DEMO_PASSWORD, salt="demodemodemodemodemodemo")
    password = os.environ.get(variable)
    if not password:
        raise CommandError(f"The environment variable {variable} is empty; put the password there.")
    return make_password(password)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ArgumentTypeError("must be 1 or more")
    return number


def _moment(text: str) -> datetime:
    try:
        moment = parse_datetime(text)
        day = parse_date(text) if moment is None else None
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r}: {error}") from None
    if day is not None:
        moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if moment is None:
        raise ArgumentTypeError(f"{text!r} is no date; write 2026-01-31 or 2026-01-31T12:00:00Z")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
