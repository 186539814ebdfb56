"""Moving house: what the embedded data directory has goes to the engines, and is checked there.

Nothing is remembered that could be wrong about what the target has: a pass finds out what is
missing there, and adds it. So it goes on where the last one ended, however that ended, and what
came to the source since is simply missing too.
"""
