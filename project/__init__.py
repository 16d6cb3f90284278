"""The demo ERP: a small but realistic host that shows and tests erp_backup."""
