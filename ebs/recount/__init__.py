"""The recount: computes ledger and windows from the topics once more, and compares them with the tables' changelogs.

It shares no rule with the statistics agent, because a wrong rule would then be wrong in both places and go unnoticed.
It keeps each event once, in dictionaries, and evaluates them at the end. It shares only the formats of events and rows,
and the code that describes rows.
"""
