"""The client of the HTTP API: `ebs.Client` and `ebs.AsyncClient`, and what the `ebs` command needs of it.

Each operation is written once, as a generator that yields calls and pauses (`steps.py`). A driver carries them out,
with blocking calls or in an event loop (`drivers.py`). So the two clients share all code except for the waiting.

This room imports nothing of `app`, `agents` and `api`: a user's program may have packages of these names.
"""
