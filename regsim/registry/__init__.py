"""The distribution protocol."""
