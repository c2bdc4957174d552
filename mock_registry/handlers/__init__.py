"""The endpoints of the specification: one module for each of its sections.

Handlers know the state and one exchange. They must not know servers, transports or the journal.
"""
