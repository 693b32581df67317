"""Taking objects in: from a request body or made up, to the topic, with the broker's word."""
