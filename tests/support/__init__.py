"""What tests stand on: real PostgreSQL clusters, and host projects run as real subprocesses."""
