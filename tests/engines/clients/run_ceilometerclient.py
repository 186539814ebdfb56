"""python-ceilometerclient against a server, unmodified: ``URL PASSWORD``. Prints what it saw."""

import json
import sys

from ceilometerclient import client
from ceilometerclient.apiclient import exceptions

url, password = sys.argv[1:3]
c = client.get_client(
    2,
    os_auth_url=f"{url}/identity/v3",
    os_username="demo",
    os_password=password,
    os_project_name="demo",
    os_tenant_name="demo",
    os_user_domain_id="default",
    os_project_domain_id="default",
)
till_1 = [{"field": "resource_id", "op": "eq", "value": "till-1"}]
saw = {}
saw["meters"] = [m.name for m in c.meters.list(q=till_1)]
saw["limit"] = len(c.meters.list(limit=1))
saw["unique"] = len([m for m in c.meters.list(unique=True) if m.name == "sales"])
saw["samples"] = [s.counter_volume for s in c.samples.list("sales", q=till_1, limit=3)]
sample = c.new_samples.list(q=[{"field": "meter", "value": "sales"}], limit=1)[0]
saw["sample"] = c.new_samples.get(sample.id).volume == sample.volume
(statistic, _) = c.statistics.list(
    "sales",
    groupby=["resource_id"],
    aggregates=[{"func": "cardinality", "param": "resource_id"}, {"func": "max"}],
)
saw["statistics"] = [statistic.count, statistic.aggregate, statistic.groupby]
saw["periods"] = len(c.statistics.list("sales", q=till_1, period=120))
saw["resources"] = [r.resource_id for r in c.resources.list()]
saw["resource"] = c.resources.get("till-2").resource_id
saw["capability"] = c.capabilities.get().api["statistics:groupby"]
made = c.samples.create(counter_name="load", resource_id="nova_1", counter_type="gauge",
                        counter_unit="count", counter_volume=1.5)  # fmt: skip
saw["created"] = [m.counter_name for m in made]
rule = {"meter_name": "sales", "threshold": 5, "comparison_operator": "gt", "statistic": "max",
        "period": 60, "query": till_1}  # fmt: skip
high = c.alarms.create(name="high", type="threshold", threshold_rule=rule, severity="critical",
                       alarm_actions=["https://example.com/hook"])  # fmt: skip
saw["alarm"] = [high.state, high.alarm_actions, high.rule["threshold"]]
high = c.alarms.update(high.alarm_id, threshold=7, name="higher")
saw["updated"] = [high.name, high.rule["threshold"], high.rule["query"][0]["value"]]
saw["state"] = [c.alarms.set_state(high.alarm_id, "ok"), c.alarms.get_state(high.alarm_id)]
saw["history"] = [change.type for change in c.alarms.get_history(high.alarm_id)]
low = c.alarms.create(name="low", meter_name="sales", threshold=1, comparison_operator="lt",
                      statistic="min")  # fmt: skip
ids = [high.alarm_id, low.alarm_id]
both = c.alarms.create(name="both", type="combination",
                       combination_rule={"alarm_ids": ids, "operator": "or"})  # fmt: skip
saw["combination"] = both.rule["operator"]
query = [{"field": "state", "op": "eq", "value": "ok"}]
saw["alarms"] = [len(c.alarms.list()), [a.name for a in c.alarms.list(q=query)]]
for alarm in (high, low, both):
    c.alarms.delete(alarm.alarm_id)
saw["gone"] = c.alarms.get(high.alarm_id)
try:
    c.meters.list(q=[{"field": "colour", "value": "red"}])
except exceptions.BadRequest as error:
    saw["error"] = str(error)
print(json.dumps(saw))
