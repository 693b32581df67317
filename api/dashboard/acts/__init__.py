"""What forms do, by the API's own routes."""
