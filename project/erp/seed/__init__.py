"""Demo data: much of it, plausible, and the same for the same arguments."""

from __future__ import annotations
