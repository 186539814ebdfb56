"""eclsdk against a server, unmodified: ``URL PASSWORD``. Prints what it saw."""

import collections
import collections.abc
import json
import sys

# What its dependencies of 2018 import from where Python 3.10 has it no longer.
collections.MutableMapping = collections.abc.MutableMapping

from ecl import connection, exceptions, profile  # noqa: E402

url, password = sys.argv[1:3]
conn = connection.Connection(
    profile=profile.Profile(),
    auth_url=f"{url}/identity/v3",
    project_name="demo",
    username="demo",
    password=password,
    user_domain_id="default",
    project_domain_id="default",
)
t = conn.telemetry
saw = {}
saw["meters"] = sorted({m.name for m in t.meters()})
saw["found"] = t.find_meter("returns").resource_id
saw["samples"] = len(list(t.samples("sales")))
saw["statistics"] = [[s.count, s.max] for s in t.statistics("sales")]
saw["resources"] = [r.resource_id for r in t.resources()]
saw["resource"] = t.get_resource("till-1").resource_id
saw["capabilities"] = {c.id: c.is_enabled for c in t.capabilities()}["statistics:groupby"]
saw["sample"] = t.create_sample(
    counter_name="load", resource_id="nova_1", counter_type="gauge", counter_unit="count"
).counter_name
rule = {"meter_name": "sales", "threshold": 5, "comparison_operator": "gt", "statistic": "max"}
alarm = t.create_alarm(name="high", type="threshold", threshold_rule=rule)
saw["alarm"] = [alarm.state, t.get_alarm(alarm.alarm_id).name, t.find_alarm(alarm.alarm_id).name]
saw["updated"] = t.update_alarm(alarm, name="higher").name
saw["state"] = [alarm.check_state(t.session), alarm.change_state(t.session, "ok")]
saw["changes"] = [change.type for change in t.alarm_changes(alarm)]
saw["alarms"] = [a.name for a in t.alarms()]
t.delete_alarm(alarm)
try:
    t.get_alarm(alarm.alarm_id)
except exceptions.NotFoundException as error:
    saw["gone"] = error.http_status
print(json.dumps(saw))
