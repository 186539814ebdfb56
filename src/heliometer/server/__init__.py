"""Wiring: builds everything in a straight line, and takes it apart in reverse.

This package alone knows everybody, and nobody but the command line knows it. ``common`` is what
every process has; ``embedded`` and ``clustered`` are the two ways for measurements to be stored,
evaluated and passed on; ``service`` puts the rest on top, and ``process`` runs it. Each thing
registers its teardown as soon as it exists.

Importing the package itself imports none of them: a command loads what it needs.
"""
