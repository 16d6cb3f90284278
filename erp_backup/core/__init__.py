"""Plain Python beneath the product: knows no Django, decides with pure functions."""
