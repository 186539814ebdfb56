"""Wiring: builds everything in a straight line, and takes it apart in reverse.

Only this package knows all others, and only the command line knows it. ``common`` is what every
process has; ``embedded`` and ``clustered`` are the two ways to store, evaluate and publish
measurements; ``service`` adds the rest, and ``process`` runs it. Everything registers its teardown
as soon as it exists. Importing the package itself imports none of its modules: a command loads what
it needs.
"""
