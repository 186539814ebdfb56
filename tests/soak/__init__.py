"""The reliability tests: which there are, what they aim at, and the table of what was measured."""
