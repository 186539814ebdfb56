"""The ports of notifications, on one resource database."""

from heliometer.notifications.ports import NotificationStores
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.delivery_log import SqlDeliveryLog
from heliometer.storage.sql.notification_addresses import SqlAddressStore
from heliometer.storage.sql.notification_methods import SqlMethodStore
from heliometer.storage.sql.outbox import SqlOutbox
from heliometer.storage.sql.verification_codes import SqlCodeStore


def notification_stores(database: Database) -> NotificationStores:
    """All stores of notifications, on one database."""
    return NotificationStores(
        methods=SqlMethodStore(database),
        addresses=SqlAddressStore(database),
        codes=SqlCodeStore(database),
        outbox=SqlOutbox(database),
        log=SqlDeliveryLog(database),
    )
