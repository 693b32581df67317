"""The work of the statistics agent in a step: ledger, windows and expiry; and the agent's pages."""
