"""The build context: which of its files there are, and what they hold."""
