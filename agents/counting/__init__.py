"""What the statistics agent does inside of a step: the ledger, the windows, what is forgotten, and its pages."""
