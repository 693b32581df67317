"""The AsyncAPI document: what lies on the topics, for those who read or write them beside us."""
