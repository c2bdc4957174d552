"""One section of the specification a module.

Knows the state and one exchange. Must not know of servers, or of each other's routes.
"""
