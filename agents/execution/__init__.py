"""Running handlers: in the event loop, in threads, in processes, each with its limits."""
