"""What the product does: functions that return or raise; commands and the admin show."""
