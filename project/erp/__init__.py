"""Items, stock, partners and orders under the runbook's own table names."""
