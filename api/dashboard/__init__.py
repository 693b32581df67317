"""The dashboard: pages for people, drawn on the server, live by Server-Sent Events, usable without JavaScript.

A client of the HTTP API inside the API's own process (`inside`): what a page shows is what a program reads.
"""
