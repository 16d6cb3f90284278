"""Back an ERP's database up, prove that each backup restores to exactly the state it was taken from.

What an ERP's ``backup_checks.py`` needs is imported from here, and loaded on first use: this module needs no Django.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from erp_backup.core.figures import Measurement
    from erp_backup.modelchecks.balances import Balance
    from erp_backup.modelchecks.counts import Count, Recent, Total
    from erp_backup.modelchecks.functions import model_check
    from erp_backup.modelchecks.results import Invariant
    from erp_backup.modelchecks.rules import AtMost, Equal
    from erp_backup.modelchecks.sameness import Same

__version__ = "0.1.0"

__all__ = [
    "AtMost",
    "Balance",
    "Count",
    "Equal",
    "Invariant",
    "Measurement",
    "Recent",
    "Same",
    "Total",
    "model_check",
]

_HOMES = {
    "AtMost": "erp_backup.modelchecks.rules",
    "Balance": "erp_backup.modelchecks.balances",
    "Count": "erp_backup.modelchecks.counts",
    "Equal": "erp_backup.modelchecks.rules",
    "Invariant": "erp_backup.modelchecks.results",
    "Measurement": "erp_backup.core.figures",
    "Recent": "erp_backup.modelchecks.counts",
    "Same": "erp_backup.modelchecks.sameness",
    "Total": "erp_backup.modelchecks.counts",
    "model_check": "erp_backup.modelchecks.functions",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use: Django imports this package before models may be imported."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
