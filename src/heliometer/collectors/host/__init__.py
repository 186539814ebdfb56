"""Reports this machine as an instance in ``hpcs.compute`` and its disks in ``hpcs.volume``."""
