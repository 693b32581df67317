"""The application: settings, events, rules, the streaming layer, topics and the broker. Imports nothing of agents or api."""
