"""The recount: ledger and windows computed from the topics once more, and compared with the tables' changelogs.

It shares no rule with the statistics agent, or a wrong rule would be right here too: it keeps each event once, in
dictionaries, and asks at the end what they say. Shared are the events' and rows' formats, and how rows are described.
"""
