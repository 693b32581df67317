"""The application: settings, events, rules, the streaming layer, topics, the broker. Knows no agents and no api."""
