"""Formats that other programs push: each is decoded into the columns of the one ingest path.

They store what can be stored and say what was left out, each in its own way: their senders do not
repeat what is refused, so that refusing a whole request for one bad sample would lose the others.
"""
