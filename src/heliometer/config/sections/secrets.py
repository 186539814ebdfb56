"""How secrets are encrypted that must be kept."""

from typing import Annotated

from msgspec import Meta, Struct


class SecretSettings(Struct, frozen=True, forbid_unknown_fields=True):
    key_file: Annotated[
        str,
        Meta(
            description="File of the keys by which secrets of notification methods are encrypted; "
            "made at the first start. Every process of a cluster needs the same keys. Empty: "
            "secrets.key in the data directory."
        ),
    ] = ""
