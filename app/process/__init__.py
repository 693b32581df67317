"""What holds for every process of ours: its event loop, its garbage, its children, what is installed."""
