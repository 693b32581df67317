"""The redrive: a dead letter, or a filter of them, is given new attempts in transactions of its own."""
