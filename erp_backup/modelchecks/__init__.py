"""What an ERP declares about its data, and how it is measured through the ORM on a snapshot or a copy."""
