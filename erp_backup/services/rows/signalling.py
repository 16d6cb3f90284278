"""Telling the ERP of rows that came back, as if it had saved them; only when that is asked for."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Model
from django.db.models.signals import post_save

from erp_backup.engines.bridging import listed
from erp_backup.modelchecks.base import all_rows
from erp_backup.services.rows.planning import Found

_CHUNK = 500

Keys = list[tuple[type[Model], list[tuple[object, ...]]]]


def inserted_keys(found: Found) -> Keys:
    """Read the keys of the rows before their relations are gone with the transaction."""
    bridge = found.closure.bridge
    return [
        (node.model, list(bridge.query(f"SELECT {listed(node.live.key)} FROM {node.relation}")))  # noqa: S608 - quoted
        for node in found.nodes
    ]


def send_signals(keys: Keys, alias: str) -> list[str]:
    """Send ``post_save`` for each row, from the committed state; return what handlers raised."""
    problems = []
    for model, found in keys:
        for instance in _instances(model, [key for key in found if len(key) == 1], alias):
            for receiver, answer in post_save.send_robust(
                sender=model, instance=instance, created=True, raw=False, using=alias, update_fields=None
            ):
                if isinstance(answer, Exception):
                    name = getattr(receiver, "__qualname__", repr(receiver))
                    problems.append(f"{name} raised {type(answer).__name__} for {model._meta.label} {instance.pk}.")
    return problems


def _instances(model: type[Model], keys: list[tuple[object, ...]], alias: str) -> Iterator[Model]:
    for start in range(0, len(keys), _CHUNK):
        chunk = [key for (key,) in keys[start : start + _CHUNK]]
        yield from all_rows(model, alias).filter(pk__in=chunk).order_by("pk")
