"""Users and partners."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any

from project.erp.models import Partner, User
from project.erp.seed.plan import HISTORY, Plan, fixed, happens, random_uuid
from project.erp.seed.words import COUNTRIES, Country

ADMIN_EMAIL = "admin@example.com"
GROUPS = {
    "Sales": ("salesorder", "salesorderline", "partner"),
    "Purchasing": ("purchaseorder", "purchaseorderline", "partner", "itemsupplier"),
    "Warehouse": ("stocktransaction", "stockledgerentry", "stocklevel", "item"),
    "Accounting": ("salesorder", "purchaseorder", "stockledgerentry"),
}
"""What each group may see: names of models."""

USER_COLUMNS = (
    "id",
    "email",
    "password",
    "full_name",
    "role",
    "language",
    "is_active",
    "is_staff",
    "is_superuser",
    "last_login",
    "date_joined",
    "preferences",
)
MEMBERSHIP_COLUMNS = ("id", "user_id", "group_id")
PARTNER_COLUMNS = (
    "id",
    "code",
    "public_id",
    "name",
    "kind",
    "country",
    "email",
    "phone",
    "tax_number",
    "address",
    "currency",
    "credit_limit",
    "customer_since",
    "is_active",
    "account_manager_id",
    "created_at",
)
_ROLES = (User.Role.SALES, User.Role.WAREHOUSE, User.Role.PURCHASING, User.Role.ACCOUNTING, User.Role.VIEWER)
_ROLE_GROUPS = {
    User.Role.SALES: "Sales",
    User.Role.PURCHASING: "Purchasing",
    User.Role.WAREHOUSE: "Warehouse",
    User.Role.ACCOUNTING: "Accounting",
}


def partner_count(plan: Plan) -> int:
    """Return how many partners go with that many items."""
    return 20 + min(plan.items // 20, 2000)


def user_rows(plan: Plan) -> Iterator[tuple[Any, ...]]:
    """Yield the administrator, then staff whom nobody can log in as until they get a password."""
    yield (
        1,
        ADMIN_EMAIL,
        plan.admin_password_hash,
        "Demo Administrator",
        User.Role.ADMIN.value,
        "en",
        True,
        True,
        True,
        None,
        plan.since,
        {},
    )
    chance = plan.chance("users")
    for number in range(2, plan.users + 1):
        yield _user_row(number, chance, plan)


def _user_row(number: int, chance: Random, plan: Plan) -> tuple[Any, ...]:
    country = chance.choice(COUNTRIES)
    name = country.full_name(chance.choice(country.given), chance.choice(country.family))
    joined = plan.since + chance.random() * HISTORY
    seen = joined + chance.random() * (plan.until - joined) if happens(chance, 0.8) else None
    role = _role(number, chance)
    return (
        number,
        f"{_address_part(name)}.{number}@example.com",
        "!",
        name,
        role.value,
        country.language,
        happens(chance, 0.93),
        role in {User.Role.MANAGER, User.Role.ACCOUNTING},
        False,
        seen,
        joined,
        {"theme": chance.choice(("light", "dark", "auto")), "rows": chance.choice((25, 50, 100))},
    )


def _role(number: int, chance: Random) -> User.Role:
    return User.Role.MANAGER if number % 12 == 2 else chance.choice(_ROLES)  # noqa: PLR2004  each dozen has a manager


def membership_rows(plan: Plan, groups: dict[str, int]) -> Iterator[tuple[int, int, int]]:
    """Yield a row for everybody whose role has a group; `groups` maps names to keys."""
    key = 0
    for row in user_rows(plan):
        role = User.Role(row[USER_COLUMNS.index("role")])
        if role in _ROLE_GROUPS:
            key += 1
            yield key, row[0], groups[_ROLE_GROUPS[role]]


def partner_countries(plan: Plan) -> list[Country]:
    """Return the country of every partner, in the order of their keys."""
    chance = plan.chance("partner countries")
    return [chance.choice(COUNTRIES) for _ in range(partner_count(plan))]


def partner_kind(number: int) -> Partner.Kind:
    """Return whether partner `number` supplies, buys, or both."""
    return (Partner.Kind.CUSTOMER, Partner.Kind.SUPPLIER, Partner.Kind.CUSTOMER, Partner.Kind.BOTH)[number % 4]


def partner_rows(plan: Plan) -> Iterator[tuple[Any, ...]]:
    """Yield the customers and suppliers."""
    chance = plan.chance("partners")
    for number, country in enumerate(partner_countries(plan), start=1):
        yield _partner_row(number, country, chance, plan)


def _partner_row(number: int, country: Country, chance: Random, plan: Plan) -> tuple[Any, ...]:
    created_at = plan.since + chance.random() * HISTORY / 4
    name = chance.choice(country.companies).format(chance.choice(country.family))
    return (
        number,
        f"P{number:05d}",
        random_uuid(chance),
        name,
        partner_kind(number).value,
        country.code,
        f"office@p{number:05d}.example" if happens(chance, 0.9) else "",
        f"{country.dial} {chance.randrange(10**8, 10**9)}",
        f"{country.code}{number:09d}" if happens(chance, 0.8) else "",
        _address(country, chance),
        country.currency,
        fixed(chance.randrange(0, 500) * 10_000, 2),
        _since(created_at, chance),
        happens(chance, 0.95),
        chance.randint(1, plan.users) if happens(chance, 0.7) else None,
        created_at,
    )


def _address(country: Country, chance: Random) -> dict[str, Any]:
    address: dict[str, Any] = {
        "street": f"{chance.choice(country.streets)} {chance.randint(1, 180)}",
        "postal_code": f"{chance.randrange(10**5):05d}",
        "city": chance.choice(country.cities),
    }
    if happens(chance, 0.3):
        address["gate"] = {"number": chance.randint(1, 12), "open": ["08:00", "16:30"]}
    return address


def _since(created_at: datetime, chance: Random) -> Any:
    return (created_at - timedelta(days=chance.randint(0, 4000))).date() if happens(chance, 0.8) else None


def _address_part(name: str) -> str:
    """Return the name as it may stand before an @: ASCII letters, dots between words."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = ["".join(filter(str.isalnum, word)) for word in plain.split()]
    return ".".join(filter(None, words)) or "staff"
