"""Reports the virtual machines of a hypervisor in ``hpcs.compute`` and ``hpcs.volume``."""
