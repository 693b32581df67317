"""What the API tells of itself: health, metrics, OpenAPI and AsyncAPI."""
