"""Who may call the API: keys, sessions of browsers, a limit of requests for each client."""
