"""Functions as ERPs have them: they take no alias, and do what they like."""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import suppress
from datetime import datetime

from django.conf import settings
from django.core.cache import cache
from django.core.mail import get_connection, mail_managers
from django.db import DataError, connection, connections, transaction
from django.db.models import QuerySet

from project.erp.models import Item, Warehouse


def count_items() -> int:
    """Return how many items there are, in whatever database is the ERP's."""
    return Item.objects.count()


def negative_stock() -> QuerySet[Item]:
    """Return items that cannot be."""
    return Item.objects.filter(on_hand__lt=0)


def stock(now: datetime) -> dict[str, int]:
    """Return a mapping; print, as ERPs do."""
    sys.stdout.write("this is no JSON\n")
    os.write(1, b"nor is this\n")
    return {item.name: now.year for item in Item.objects.all()}


def raises() -> int:
    """Fail."""
    raise ValueError("it is broken")


def sleeps() -> int:
    """Take too long."""
    time.sleep(60)
    return 0


def ends_the_process() -> int:
    """Take the whole process down."""
    os._exit(7)


def connects() -> int:
    """Reach for another machine: whose port stands in the environment."""
    with socket.create_connection(("127.0.0.1", int(os.environ["ERP_TEST_PORT"])), timeout=5):
        return 1


def connects_by_hand() -> int:
    """Reach for it without a look-up."""
    with socket.socket() as plain:
        plain.connect(("127.0.0.1", int(os.environ["ERP_TEST_PORT"])))
    return 1


def sends_a_datagram() -> int:
    """Send without connecting."""
    with socket.socket(type=socket.SOCK_DGRAM) as plain:
        return plain.sendto(b"x", ("127.0.0.1", int(os.environ["ERP_TEST_PORT"])))


def connects_to_a_socket_file() -> int:
    """Reach for a queue on this machine."""
    with socket.socket(socket.AF_UNIX) as plain:
        plain.connect("/run/queue.sock")
    return 1


def looks_up() -> int:
    """Ask for a name."""
    return len(socket.getaddrinfo("example.org", 443))


def mails() -> dict[str, int]:
    """Send a mail, which must go nowhere."""
    mail_managers("subject", "body")
    return {type(get_connection()).__module__: 1}


def caches() -> dict[str, int]:
    """Use the cache."""
    cache.set("key", 1)
    return {str(settings.CACHES["default"]["BACKEND"]): cache.get("key")}


def reads_another_database() -> int:
    """Use a database that is not the copy."""
    return Item.objects.using("other").count()


def reads_a_replica() -> int:
    """Use a mirror of the copy."""
    return Item.objects.using("replica").count()


def commits() -> int:
    """Leave the snapshot's transaction."""
    transaction.commit()
    return Item.objects.count()


def writes() -> int:
    """Change something."""
    Warehouse.objects.create(code="X", name="X", city="X", country="ID")
    return 1


def writes_in_spite() -> int:
    """Leave the snapshot by plain SQL, then change something."""
    with connection.cursor() as cursor:
        cursor.execute("COMMIT")
    return writes()


def reconnects() -> int:
    """Close the connection and go on, as workers do between jobs."""
    connection.close()
    return Item.objects.count()


def uses_savepoints() -> int:
    """Nest blocks, one of which fails, then count with a cursor at the server."""
    with transaction.atomic():
        with suppress(DataError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")
        return sum(1 for _ in Item.objects.iterator(chunk_size=1))


def time_of_transaction() -> int:
    """Return how the database sees its transaction: 1 is read-only and repeatable read."""
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT current_setting('transaction_read_only') || current_setting('transaction_isolation')")
        return int(cursor.fetchone() == ("onrepeatable read",))
