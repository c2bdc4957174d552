"""The page at ``/``: the registry as people see it in a browser."""
