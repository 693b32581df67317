"""Submitting objects: from a request body, or generated, to the topic, until the broker has acknowledged them."""
