"""Copy, its decisions and its ledger."""
