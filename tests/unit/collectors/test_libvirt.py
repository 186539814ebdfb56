"""The libvirt collector, on what a real hypervisor said of a real guest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from heliometer.collectors import Measurement
from heliometer.collectors.libvirt.collector import Domain, LibvirtCollector
from heliometer.collectors.libvirt.definition import Definition, read_definition
from heliometer.collectors.libvirt.owners import Owners, WrongOwners
from heliometer.collectors.libvirt.statistics import snapshot_of

UUID = "9e033e0d-96f8-4248-bb0e-5c4c0f3bc869"
PROJECT = "0123456789abcdef0123456789abcdef"
XML = f"""
<domain type='qemu' id='1'>
  <name>instance-00000001</name>
  <uuid>{UUID}</uuid>
  <metadata>
    <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
      <nova:name>web &amp; one</nova:name>
      <nova:owner>
        <nova:user uuid="2e97d2e72a2f45aea72463d55fddb9d6">u</nova:user>
        <nova:project uuid="{PROJECT}">p</nova:project>
      </nova:owner>
    </nova:instance>
  </metadata>
  <devices>
    <disk type='file' device='disk'>
      <source file='/var/lib/nova/instances/x/disk' index='1'/>
      <target dev='vda' bus='virtio'/>
      <alias name='virtio-disk0'/>
    </disk>
    <disk type='file' device='cdrom'><target dev='hda' bus='ide'/></disk>
    <interface type='ethernet'>
      <mac address='fa:16:3e:00:00:01'/>
      <target dev='tapdc8056e1-82' managed='no'/>
      <alias name='net0'/>
    </interface>
  </devices>
</domain>
"""
IDLE: dict[str, Any] = {
    "cpu.time": 2_590_000_000, "vcpu.current": 1,
    "block.count": 2,
    "block.0.name": "vda", "block.0.path": "/var/lib/nova/instances/x/disk",
    "block.0.rd.reqs": 2, "block.0.rd.bytes": 4608, "block.0.rd.times": 1_000_000,
    "block.0.wr.reqs": 0, "block.0.wr.bytes": 0, "block.0.wr.times": 0,
    "block.0.fl.reqs": 0, "block.0.fl.times": 0,
    "block.1.name": "hda", "block.1.rd.reqs": 9,
    "net.count": 1, "net.0.name": "tapdc8056e1-82",
    "net.0.rx.bytes": 0, "net.0.rx.pkts": 0, "net.0.rx.errs": 0, "net.0.rx.drop": 0,
    "net.0.tx.bytes": 0, "net.0.tx.pkts": 0, "net.0.tx.errs": 0, "net.0.tx.drop": 0,
}  # fmt: skip
BUSY = IDLE | {
    "cpu.time": 7_670_000_000,
    "block.0.rd.reqs": 34, "block.0.rd.bytes": 33_559_040, "block.0.rd.times": 7_910_216,
    "block.0.wr.reqs": 32, "block.0.wr.bytes": 33_554_432, "block.0.wr.times": 84_722_538,
    "block.0.fl.reqs": 1, "block.0.fl.times": 21_379_388,
    "net.0.rx.bytes": 20_840, "net.0.rx.pkts": 20,
    "net.0.tx.bytes": 41_680, "net.0.tx.pkts": 40,
}  # fmt: skip


class Hypervisor:
    """Answers as libvirt does."""

    def __init__(self, *domains: Domain, xml: str = XML) -> None:
        self.found = list(domains)
        self.xml: str | None = xml
        self.asked = 0

    def domains(self) -> list[Domain]:
        return self.found

    def xml_of(self, domain: Domain) -> str | None:
        self.asked += 1
        return self.xml

    def complete(self, domain: Domain, definition: Definition) -> Mapping[str, Any]:
        return domain.statistics


class World:
    """A collector over such a hypervisor, and its clock."""

    def __init__(self, statistics: Mapping[str, Any] = IDLE, xml: str = XML) -> None:
        self.hypervisor = Hypervisor(Domain(UUID, 1, statistics), xml=xml)
        self.now = 0.0
        self.collector = LibvirtCollector(self.hypervisor, Owners(), lambda: self.now)

    def show(self, statistics: Mapping[str, Any], run: int = 1) -> None:
        self.hypervisor.found = [Domain(UUID, run, statistics)]

    def round(self, seconds: float = 10.0, *, due: bool = True) -> dict[tuple[str, str], float]:
        self.now += seconds
        found = self.collector.collect(7000, lambda _: due)
        return {(m.dimensions["metric_name"], device(m)): m.value for m in found}


def device(measurement: Measurement) -> str:
    dimensions = measurement.dimensions
    return dimensions.get("device", dimensions.get("disk", ""))


def test_what_a_guest_did_between_two_rounds() -> None:
    world = World()
    first = world.round()
    assert first["cpu_total_time", ""] == 2_590_000_000
    assert {name for name, _ in first if not name.endswith(("_count", "_total_time"))} == set()
    world.show(BUSY)
    found = world.round(10)
    assert found["cpu_time", ""] == 5_080_000_000
    assert found["cpu_total_utilization", ""] == 50.8
    assert found["disk_read_ops", "vda"] == 32
    assert found["disk_write_bytes", "vda"] == found["volume_write_bytes", "vda"] == 33_554_432
    assert found["volume_read_time", "vda"] == pytest.approx(0.006910216)
    assert found["volume_write_time", "vda"] == pytest.approx(0.084722538)
    # Reading, writing and flushing took a tenth of a second of the ten.
    assert found["volume_idle_time", "vda"] == pytest.approx(9.887)
    assert found["net_in_packets", "eth0"] == 20
    assert found["net_out_bytes", "eth0"] == found["net_out_bytes_count", "eth0"] == 41_680
    assert {name for name, where in found if where == "hda"} == set(), "a drive is no disk"


def test_every_metric_of_the_document_is_there() -> None:
    world = World()
    world.round()
    world.show(BUSY)
    from heliometer.meters.model import KNOWN

    assert {name for name, _ in world.round()} == {name for _, name in KNOWN}


def test_measurements_are_the_owners() -> None:
    world = World()
    [project] = {m.project_id for m in world.collector.collect(7000)}
    assert project == PROJECT
    assert {m.dimensions["instance_id"] for m in world.collector.collect(8000)} == {UUID}


def test_a_domain_that_was_started_anew_has_no_differences() -> None:
    world = World(BUSY)
    world.round()
    world.show(IDLE | {"cpu.time": 9_000_000_000}, run=2)
    found = world.round()
    assert ("cpu_time", "") not in found
    assert ("disk_read_ops", "vda") not in found
    assert found["disk_read_ops_count", "vda"] == 2


def test_a_counter_that_went_back_gives_no_difference() -> None:
    world = World(BUSY)
    world.round()
    world.show(IDLE)
    found = world.round()
    assert not [value for value in found.values() if value < 0]
    assert ("net_in_bytes", "eth0") not in found


def test_another_disk_under_the_same_name_is_not_compared() -> None:
    world = World()
    world.round()
    world.hypervisor.xml = XML.replace("/x/disk", "/y/disk")
    world.show(BUSY | {"block.0.path": "/var/lib/nova/instances/y/disk"})
    found = world.round()
    assert ("disk_read_bytes", "vda") not in found
    assert found["disk_read_bytes_count", "vda"] == 33_559_040
    assert found["net_in_packets", "eth0"] == 20, "the interface is the same one"


@pytest.mark.parametrize("absurd", [(1 << 64) - 1, -1, "many", None])
def test_what_is_no_counter_is_left_out(absurd: Any) -> None:
    world = World()
    world.round()
    world.show(BUSY | {"net.0.rx.bytes": absurd})
    found = world.round()
    assert ("net_in_bytes_count", "eth0") not in found
    assert found["net_in_packets", "eth0"] == 20


def test_a_difference_that_no_device_can_make_is_left_out() -> None:
    world = World()
    world.round()
    world.show(BUSY | {"net.0.rx.bytes": 1 << 60})
    assert ("net_in_bytes", "eth0") not in world.round()


def test_differences_span_the_time_since_the_last_report() -> None:
    world = World()
    world.round()
    world.show(IDLE | {"cpu.time": 3_000_000_000})
    assert world.round(due=False) == {}
    world.show(BUSY)
    found = world.round()
    assert found["cpu_time", ""] == 5_080_000_000
    assert found["cpu_total_utilization", ""] == 25.4


def test_a_device_that_cannot_be_read_once_loses_nothing() -> None:
    world = World()
    world.round()
    busy = {key: value for key, value in IDLE.items() if not key.startswith("block.0.")}
    world.show(busy)
    assert ("disk_read_ops_count", "vda") not in world.round()
    world.show(BUSY)
    assert world.round()["disk_read_ops", "vda"] == 32


def test_a_processor_cannot_have_run_longer_than_there_was_time() -> None:
    world = World()
    world.round()
    world.show(IDLE | {"cpu.time": 1 << 62})
    assert ("cpu_time", "") not in world.round()


def test_the_definition_is_read_again_only_when_it_changed() -> None:
    world = World()
    for _ in range(5):
        world.round()
    assert world.hypervisor.asked == 1
    world.show(IDLE | {"net.count": 0})
    world.round()
    assert world.hypervisor.asked == 2
    world.round(seconds=4000)
    assert world.hypervisor.asked == 3, "an owner may have changed"


def test_a_domain_that_vanishes_while_it_is_read_is_counted() -> None:
    world = World()
    world.hypervisor.xml = None
    assert world.round() == {}
    assert world.collector.counts["vanished"] == 1


def test_a_domain_without_an_owner_is_said_once_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(xml=XML.replace(PROJECT, ""))
    for _ in range(3):
        assert world.round() == {}
    assert world.collector.counts["ownerless"] == 1
    assert len(caplog.records) == 1
    assert "mapping" in caplog.text


def test_what_cannot_be_read_is_left_out_and_the_others_are_not() -> None:
    world = World(xml="<nonsense")
    assert world.round() == {}
    world.hypervisor.xml = XML
    assert world.round() != {}


# -- definitions ------------------------------------------------------------------------------


def test_a_definition() -> None:
    assert read_definition(XML) == Definition(
        name="instance-00000001",
        project=PROJECT,
        disks={"vda": "file=/var/lib/nova/instances/x/disk"},
        interfaces={"tapdc8056e1-82": "eth0"},
        addresses={"eth0": "fa:16:3e:00:00:01"},
    )


def interfaces(*aliases: str) -> Mapping[str, str]:
    devices = ""
    for number, alias in enumerate(aliases):
        named = f"<alias name={alias!r}/>" if alias else ""
        devices += f"<interface><target dev='tap{number}'/>{named}</interface>"
    return read_definition(f"<domain><devices>{devices}</devices></domain>").interfaces


def test_interfaces_keep_their_number_when_another_is_unplugged() -> None:
    assert interfaces("net0", "net1") == {"tap0": "eth0", "tap1": "eth1"}
    assert interfaces("net1", "net3") == {"tap0": "eth1", "tap1": "eth3"}
    assert interfaces("", "") == {"tap0": "eth0", "tap1": "eth1"}
    assert interfaces("ua-mine", "net1") == {"tap0": "eth0", "tap1": "eth1"}
    assert interfaces("net1", "ua-x") == {"tap0": "eth1", "tap1": "eth0"}
    assert interfaces("net1", "net2", "") == {"tap0": "eth1", "tap1": "eth2", "tap2": "eth0"}


def test_an_interface_that_the_host_does_not_see_has_no_numbers() -> None:
    statistics = IDLE | {"net.count": 1}
    statistics = {k: v for k, v in statistics.items() if not k.startswith("net.0")}
    definition = read_definition(XML.replace("<target dev='tapdc8056e1-82' managed='no'/>", ""))
    assert snapshot_of(statistics, definition, 0, 0).interfaces == {}


@pytest.mark.parametrize("xml", ["", "<domain", "<network/>", "text"])
def test_what_is_no_domain(xml: str) -> None:
    with pytest.raises(ValueError):
        read_definition(xml)


# -- owners -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "owner"),
    [
        (UUID, "shop"),
        ("instance-0000000*", "shop"),
        ("web*", PROJECT),  # its tenant chose that name
        (PROJECT, "shop"),
        ("other-*", PROJECT),
    ],
)
def test_the_mapping_comes_before_nova(tmp_path: Path, pattern: str, owner: str) -> None:
    path = tmp_path / "owners.toml"
    path.write_text(f'[projects]\n"{pattern}" = "shop"\n')
    assert Owners.load(path).owner(UUID, read_definition(XML)) == owner


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("projects", "not valid TOML"),
        ("[owners]\na = 'b'", "one table"),
        ("[projects]\na = 1", "must be a project's name"),
        ("[projects]\na = ''", "must be a project's name"),
    ],
)
def test_a_wrong_mapping_is_told(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "owners.toml"
    path.write_text(text)
    with pytest.raises(WrongOwners, match=why):
        Owners.load(path)
    with pytest.raises(WrongOwners, match="cannot read"):
        Owners.load(tmp_path / "none.toml")
