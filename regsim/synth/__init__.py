"""Transfers without HTTP and without bytes."""
