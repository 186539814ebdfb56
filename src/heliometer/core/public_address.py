"""Which addresses are public: what a tenant may have the service connect to."""

import ipaddress

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
"""What IANA has given out of IPv6; the standard library calls most of the rest global too."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NOT_PUBLIC = [ipaddress.ip_network(n) for n in ("2001::/23", "192.88.99.0/24")]
"""Networks that are not public, whatever the standard library says of them."""
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)


def is_public(address: IpAddress) -> bool:
    """Whether an address, and every one embedded in it, is public."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _embedded(address)
        if inner:
            return all(is_public(each) for each in inner)
        if address not in _GLOBAL_UNICAST:
            return False
    if any(address in network for network in _NOT_PUBLIC if network.version == address.version):
        return False
    return address.is_global and not address.is_multicast


def _embedded(address: ipaddress.IPv6Address) -> list[IpAddress]:
    """The IPv4 addresses that a packet to it would end at."""
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    number = int(address)
    if address in _NAT64 or (number >> 32) & 0xFFFF_FFFF in _ISATAP:
        found.append(ipaddress.IPv4Address(number & 0xFFFF_FFFF))
    return [each for each in found if each is not None]
