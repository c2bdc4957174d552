"""regsim tells exactly which layers a push or pull moves, which it skips, and why."""
