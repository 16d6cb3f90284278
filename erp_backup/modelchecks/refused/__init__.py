"""A Django database backend that refuses: it stands for every alias that an isolated process must not reach."""
