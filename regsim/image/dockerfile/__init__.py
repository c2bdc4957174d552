"""Dockerfiles: from their text to instructions, with every mistake told at once."""
