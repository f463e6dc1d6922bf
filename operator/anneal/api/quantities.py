"""Kubernetes quantities as numbers."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

_UNITS: dict[str, Decimal | int] = {
    "": 1,
    "m": Decimal("0.001"),
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


def bytes_of(quantity: str) -> int:
    """A quantity that has the form of `anneal.api.model.Quantity`, as a whole number of bytes, rounded up."""
    number = quantity.rstrip("".join(_UNITS))
    value = Decimal(number) * _UNITS[quantity[len(number) :]]
    return int(value.to_integral_value(ROUND_CEILING))
