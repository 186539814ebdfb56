"""Formats that other programs push; each is decoded into the columns of the one ingest path.

Senders do not repeat a refused request, and would lose all its samples to one bad one. So
everything valid is stored, and the answer says what was left out, in the format's own way.
"""
