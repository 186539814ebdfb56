"""``heliometer`` with one line more in its map of channels: ``python -m pager_channel …``."""

from heliometer.cli import main
from heliometer.notifications.channels import CHANNELS
from pager_channel import LINE

CHANNELS.update([LINE])
main()
