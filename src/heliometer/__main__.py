"""``python -m heliometer`` is the same as the ``heliometer`` command."""

from heliometer.cli import main

if __name__ == "__main__":
    main()
