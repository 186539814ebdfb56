"""Real virtual machines for the tests: a libvirtd of our own, and tiny Linux guests in it.

The guests run Debian's cloud kernel with an initial file system of busybox, in software emulation,
so neither KVM nor an image from the Internet is needed. Their serial console takes orders: compute,
use the disk, use the network.

Nothing of the system's libvirt is touched. The daemon runs in session mode, for which it must not
be root: a user namespace gives it another user id. A second namespace around that one holds the
network: a bridge at 10.0.2.2 and one tap device for each guest, made by us because a daemon in
session mode may not. libvirt counts the traffic of such a device, but none for its user mode
network (`<interface type='user'>`), which the guests get if taps cannot be made here; then
``Hypervisor.has_network`` is false.

Debian packages: libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86
busybox-static cpio iproute2.
"""

import contextlib
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
import uuid
from pathlib import Path
from typing import Self
from xml.sax.saxutils import escape, quoteattr

from eventually import eventually

PROGRAMS = ["apt-cache", "apt-get", "busybox", "cpio", "dpkg-deb", "ip", "libvirtd", "nsenter",
            "qemu-system-x86_64", "unshare", "virsh"]  # fmt: skip
CACHE_VARIABLE = "HELIOMETER_GUEST_CACHE"
KERNEL_PACKAGE = "linux-image-cloud-amd64"
MODULES = ["virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci",
           "virtio_blk", "virtio_balloon", "failover", "net_failover", "virtio_net"]  # fmt: skip
# In this order: each needs some of those before it.

MIB = 1 << 20
MEMORY_MIB = 160
DISK_MIB = 64
GATEWAY = "10.0.2.2"
GATEWAY_MAC = "fa:16:3e:00:01:00"
FIRST_ADDRESS = 15
DAEMON_SECONDS = 60.0
BOOT_SECONDS = 180.0  # a few when nothing else runs; software emulation suffers when much does

INIT = f"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in {" ".join(MODULES)}; do insmod /lib/$module.ko; done
ip link set lo up
ip link set eth0 up
ip addr add $address/24 broadcast + dev eth0
[ -z "$gateway" ] || arp -s {GATEWAY} $gateway  # what is not asked for is not counted either
obey() {{
    case $1 in
    cpu) timeout $2 sh -c 'while :; do :; done'; true;;
    disk)
        dd if=/dev/zero of=/dev/vda bs=1M count=$2 oflag=direct conv=fsync,notrunc 2>/dev/null &&
        dd if=/dev/vda of=/dev/null bs=1M count=$2 iflag=direct 2>/dev/null;;
    ping) ping -q -i 0.1 -W 5 -c $2 -s $3 {GATEWAY} >/dev/null;;
    shout) ping -q -i 0.1 -W 1 -c $2 -s $3 10.0.2.255 >/dev/null; true;;
    poweroff) poweroff -f;;
    *) false;;
    esac
}}
while :; do
    exec </dev/ttyS0 >/dev/ttyS0 2>&1
    stty -echo clocal
    echo "@ready"
    while read -r number order; do
        obey $order
        echo "@done $number $?"
    done
done
"""

# Its argument is the folder of the daemon. The input ends when the tests close it, or when they are
# killed: then the folder is still there, and all that runs has to go.
NETWORK = f"""
set -e
ip link set lo up
if [ -e /proc/sys/net/ipv6/conf/default/disable_ipv6 ]; then
    echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6  # or the counters move by themselves
fi
ip link add br0 address {GATEWAY_MAC} type bridge
ip addr add {GATEWAY}/24 broadcast + dev br0
ip link set br0 up
echo up
cat
set +e
for file in "$1"/run/libvirt/qemu/run/*.pid; do
    [ ! -e "$file" ] || kill -KILL $(cat "$file")
done
rm -rf "$1"
"""

DOMAIN = """
<domain type='qemu'>
  <name>{domain}</name>
  <uuid>{uuid}</uuid>
  <metadata>
    <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
      <nova:name>{name}</nova:name>
      <nova:owner>
        <nova:user uuid="{user}">u</nova:user>
        <nova:project uuid={project}>p</nova:project>
      </nova:owner>
    </nova:instance>
  </metadata>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>console=ttyS0 quiet panic=1 ipv6.disable=1 {network}</cmdline>
  </os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>{emulator}</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file={disk}/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <interface type='{kind}'>
      <mac address='{mac}'/>
      {target}
      <model type='virtio'/>
    </interface>
    <serial type='unix'>
      <source mode='bind' path={console}/>
      <log file={log} append='on'/>
    </serial>
    <controller type='usb' model='none'/>
    <memballoon model='virtio'><stats period='10'/></memballoon>
  </devices>
</domain>
"""


def search_path() -> str:
    """Where programs are: Debian's users do not have all of these folders in theirs."""
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def missing() -> str | None:
    """Why no guest can run here, or nothing."""
    for program in PROGRAMS:
        if shutil.which(program, path=search_path()) is None:
            return f"{program} is not installed"
    tried = subprocess.run(
        ["unshare", "-r", "unshare", "-U", "--map-user=1000", "true"],
        capture_output=True, text=True,
    )  # fmt: skip
    return f"no user namespaces: {tried.stderr.strip()}" if tried.returncode else None


def run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout


def kernel_and_initrd() -> tuple[Path, Path]:
    """Fetch Debian's cloud kernel and make the initial file system, unless that was done before."""
    depends = run("apt-cache", "depends", KERNEL_PACKAGE)
    found = re.search(r"Depends: linux-image-(\S+-cloud-amd64)", depends)
    assert found, f"{KERNEL_PACKAGE} depends on no kernel: {depends}"
    version = found[1]
    given = os.environ.get(CACHE_VARIABLE)
    # The user is in the name: of a folder that all may write to, we trust only our own part.
    cache = (
        Path(given) / version
        if given
        else Path(tempfile.gettempdir()) / f"heliometer-guest-{version}-{os.getuid()}"
    )
    kernel, initrd, recipe = cache / "vmlinuz", cache / "initrd", cache / "init"
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    assert cache.stat().st_uid == os.getuid(), f"{cache} belongs to somebody else"
    with tempfile.TemporaryDirectory(dir=cache) as name:  # then renamed: never half a file
        work = Path(name)
        if not (kernel.exists() and all((cache / f"{each}.ko").exists() for each in MODULES)):
            run("apt-get", "download", f"linux-image-{version}", cwd=work)
            unpack(next(work.glob("*.deb")), work / "new")
            for module in MODULES:
                (work / "new" / f"{module}.ko").rename(cache / f"{module}.ko")
            (work / "new" / "vmlinuz").rename(kernel)
        if not (initrd.exists() and recipe.exists() and recipe.read_text() == INIT):
            make_initrd(cache, work / "root", work / "initrd")
            (work / "initrd").rename(initrd)
            (work / "init").write_text(INIT)
            (work / "init").rename(recipe)
    return kernel, initrd


def unpack(package: Path, target: Path) -> None:
    """Take the kernel and our modules out of its package."""
    target.mkdir()
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as deb,
        tarfile.open(fileobj=deb.stdout, mode="r|") as files,
    ):
        for member in files:
            path = Path(member.name)
            if path.name.startswith("vmlinuz-"):
                name = "vmlinuz"
            elif path.suffix == ".ko" and path.stem in MODULES:
                name = path.name
            else:
                continue
            content = files.extractfile(member)
            assert content is not None, member.name
            (target / name).write_bytes(content.read())
    assert deb.returncode == 0, package


def make_initrd(modules: Path, root: Path, target: Path) -> None:
    """The initial file system: busybox, the modules and what starts them."""
    (root / "bin").mkdir(parents=True)
    (root / "lib").mkdir()
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, root / "bin" / "busybox")
    for module in MODULES:
        shutil.copy(modules / f"{module}.ko", root / "lib")
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    with target.open("wb") as out:
        subprocess.run(
            ["cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0"],
            input=names.encode(), stdout=out, cwd=root, check=True,
        )  # fmt: skip


class Hypervisor:
    """A libvirtd of our own, while the context lasts. ``uri`` is where it is found."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.uri = ""
        self.has_network = False
        self.guests: list[Guest] = []
        self._daemon: subprocess.Popen[bytes] | None = None
        self._network: subprocess.Popen[str] | None = None
        # The path of a unix socket has at most 107 bytes, which pytest's folders may exceed.
        self._short = Path()

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._short = Path(tempfile.mkdtemp(prefix="hv-"))
        try:
            self.kernel, self.initrd = kernel_and_initrd()
            for name in ["run", "config/libvirt", "cache", "data", "consoles"]:
                (self._short / name).mkdir(parents=True, mode=0o700)
            config = self._short / "config" / "libvirt"
            (config / "qemu.conf").write_text('security_driver = "none"\nstdio_handler = "file"\n')
            (config / "libvirtd.conf").write_text(
                f'log_level = 3\nlog_outputs = "3:file:{self.folder / "libvirtd.log"}"\n'
            )
            self.env = os.environ | {
                "PATH": search_path(),
                "LC_ALL": "C",
                "HOME": str(self._short),
                "XDG_RUNTIME_DIR": str(self._short / "run"),
                "XDG_CONFIG_HOME": str(self._short / "config"),
                "XDG_CACHE_HOME": str(self._short / "cache"),
                "XDG_DATA_HOME": str(self._short / "data"),
            }
            self._socket = self._short / "run" / "libvirt" / "libvirt-sock"
            self.uri = f"qemu+unix:///session?socket={self._socket}"
            self._start_network()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the daemon, and wait until it answers."""
        assert self._daemon is None
        # Without taps the guests share the tests' network, which their emulators reach for them.
        inside = self._inside() if self.has_network else ["unshare", "-r"]
        with (self.folder / "libvirtd.out").open("ab") as out:
            self._daemon = subprocess.Popen(
                [*inside, "unshare", "-U", "--map-user=1000", "--map-group=1000", "libvirtd"],
                env=self.env, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        eventually(self._answers, DAEMON_SECONDS, self._complaint)

    def stop(self) -> None:
        """Stop the daemon. The guests live on, and a daemon that is started later finds them."""
        if self._daemon is not None:
            self._daemon.terminate()
            try:
                self._daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
                self._daemon.wait()
            self._daemon = None

    def boot(self, name: str, *, project: str) -> "Guest":
        """Start a new guest that Nova could have made, and wait until it takes orders."""
        guest = Guest(self, name, project, len(self.guests) + 1)
        self.guests.append(guest)
        guest.start()
        return guest

    def virsh(self, *arguments: str) -> str:
        """Run virsh with our daemon."""
        return run("virsh", "-q", "-c", self.uri, *arguments, env=self.env)

    def add_tap(self, name: str, address: str, mac: str) -> None:
        """Make the tap device of a guest: a new one for each start, so that it counts from 0."""
        self.remove_tap(name)
        for command in [
            # The daemon's user is not root in there, so the device has to say whose it is.
            f"tuntap add dev {name} mode tap user 0",
            f"link set {name} master br0 up",
            f"link set {name} type bridge_slave isolated on",  # one guest does not hear another
            f"neighbor replace {address} lladdr {mac} dev br0 nud permanent",
        ]:
            run(*self._inside(), "ip", *command.split(), env=self.env)

    def remove_tap(self, name: str) -> None:
        """Remove it, if it is there."""
        subprocess.run(
            [*self._inside(), "ip", "link", "del", name], env=self.env, capture_output=True
        )

    def close(self) -> None:
        """End all that was started, and remove what was made outside the folder."""
        self.stop()  # before its guests: it would tidy up after them, while we do
        for pid in self._emulators():
            self._kill(pid)
        for guest in self.guests:
            guest.hang_up()
        if self._short != Path():
            shutil.rmtree(self._short, ignore_errors=True)
            self._short = Path()
        if self._network is not None:
            self._network.communicate()  # it ends with its input, and the devices with it
            self._network = None

    def _start_network(self) -> None:
        self._network = subprocess.Popen(
            ["unshare", "-rn", "sh", "-c", NETWORK, "network", str(self._short)],
            env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        assert self._network.stdout is not None
        up = self._network.stdout.readline() == "up\n"
        if up:
            tried = subprocess.run(
                [*self._inside(), "ip", "tuntap", "add", "dev", "trial", "mode", "tap"],
                env=self.env, capture_output=True,
            )  # fmt: skip
            self.has_network = tried.returncode == 0

    def _inside(self) -> list[str]:
        """Run as root of the namespace that holds the network."""
        assert self._network is not None
        return ["nsenter", "-t", str(self._network.pid), "-U", "-n", "--preserve-credentials"]

    def _answers(self) -> bool:
        assert self._daemon is not None
        assert self._daemon.poll() is None, self._complaint()
        if not self._socket.exists():
            return False
        asked = subprocess.run(
            ["virsh", "-q", "-c", self.uri, "list"],
            env=self.env, capture_output=True, stdin=subprocess.DEVNULL, timeout=DAEMON_SECONDS,
        )  # fmt: skip
        return asked.returncode == 0

    def _complaint(self) -> str:
        texts = [self.folder / "libvirtd.out", self.folder / "libvirtd.log"]
        return "libvirtd: " + "".join(text.read_text() for text in texts if text.exists())

    def _emulators(self) -> list[int]:
        folder = self._short / "run" / "libvirt" / "qemu" / "run"
        if self._short == Path() or not folder.exists():
            return []
        pids = (path.read_text().strip() for path in folder.glob("instance-*.pid"))
        return [int(pid) for pid in pids if pid.isdigit()]

    def _kill(self, pid: int) -> None:
        command = Path(f"/proc/{pid}/cmdline")
        with contextlib.suppress(OSError):
            if str(self._short).encode() in command.read_bytes():  # the number may be another's now
                os.kill(pid, signal.SIGKILL)
                eventually(lambda: not is_running(pid), why=lambda: f"{pid} does not die")


def is_running(pid: int) -> bool:
    """Whether the process is there, and is more than its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Guest:
    """A virtual machine: ``domain`` is libvirt's name for it, ``name`` the one Nova's user gave."""

    def __init__(self, hypervisor: Hypervisor, name: str, project: str, number: int) -> None:
        self.name = name
        self.project = project
        self.uuid = str(uuid.uuid4())
        self.domain = f"instance-{number:08x}"  # as Nova names them
        self.address = f"10.0.2.{FIRST_ADDRESS + number - 1}"
        self.tap = f"tap{uuid.uuid4()!s:.11}"  # as Neutron names them, after the port
        self.disk = hypervisor.folder / self.uuid / "disk"
        self._hypervisor = hypervisor
        self._log = self.disk.with_name("console.log")
        self._mac = f"fa:16:3e:00:00:{number:02x}"
        self._path = hypervisor._short / "consoles" / str(number)
        self._console: Console | None = None
        self._orders = 0
        self.disk.parent.mkdir()
        with self.disk.open("wb") as file:
            file.truncate(DISK_MIB * MIB)
        kind, target, network = "user", "", f"address={self.address}"
        if hypervisor.has_network:
            kind = "ethernet"
            target = f"<target dev='{self.tap}' managed='no'/>"
            network += f" gateway={GATEWAY_MAC}"
        xml = self.disk.with_name("domain.xml")
        xml.write_text(
            DOMAIN.format(
                domain=self.domain,
                uuid=self.uuid,
                name=escape(name),
                user=uuid.uuid4().hex,
                project=quoteattr(project),
                memory=MEMORY_MIB,
                kernel=escape(str(hypervisor.kernel)),
                initrd=escape(str(hypervisor.initrd)),
                network=network,
                emulator=shutil.which("qemu-system-x86_64", path=search_path()),
                disk=quoteattr(str(self.disk)),
                kind=kind,
                target=target,
                mac=self._mac,
                console=quoteattr(str(self._path)),
                log=quoteattr(str(self._log)),
            )
        )
        hypervisor.virsh("define", str(xml))

    def start(self) -> None:
        """Start it, and wait until it takes orders."""
        if self._hypervisor.has_network:
            self._hypervisor.add_tap(self.tap, self.address, self._mac)
        self._hypervisor.virsh("start", self.domain)
        self._console = Console(self._path)
        self._await("@ready", BOOT_SECONDS)

    def burn(self, seconds: int) -> None:
        """Compute for so long."""
        self._order(f"cpu {seconds}", seconds)

    def write_disk(self, mib: int) -> None:
        """Write so much to the disk and read it again, both past the guest's cache."""
        assert 0 < mib <= DISK_MIB
        self._order(f"disk {mib}", mib)

    def ping(self, count: int, size: int = 1000) -> None:
        """Send so many packets, at ten a second, each of which is answered."""
        self._order(f"ping {count} {size}", count)

    def shout(self, count: int, size: int = 1000) -> None:
        """Send so many packets to all: nobody answers, so it receives nothing."""
        self._order(f"shout {count} {size}", count)

    def reset(self) -> None:
        """Press the reset button: the guest starts anew in the same process, counters go on."""
        self._hypervisor.virsh("reset", self.domain)
        self._await("@ready", BOOT_SECONDS)

    def reboot(self) -> None:
        """Stop and start it, as Nova's reboots do: in a new process, which counts from 0."""
        self.stop()
        self.start()

    def power_off(self) -> None:
        """Let the guest switch itself off. It stays defined."""
        assert self._console is not None
        self._console.write("0 poweroff\n")
        eventually(
            lambda: self.state() == "shut off",
            why=lambda: f"{self.domain} is {self.state()}",
            pause_s=0.2,
        )
        self.stop()

    def stop(self) -> None:
        """Stop it the hard way. It stays defined."""
        self.hang_up()
        if self.state() != "shut off":
            self._hypervisor.virsh("destroy", self.domain)
        if self._hypervisor.has_network:
            self._hypervisor.remove_tap(self.tap)

    def destroy(self) -> None:
        """Stop it the hard way, and let libvirt forget it."""
        self.stop()
        self._hypervisor.virsh("undefine", self.domain)

    def hang_up(self) -> None:
        """Let go of its console."""
        if self._console is not None:
            self._console.close()
            self._console = None

    def state(self) -> str:
        """What libvirt says it does, such as "running"."""
        return self._hypervisor.virsh("domstate", self.domain).strip()

    def _order(self, order: str, least: float) -> None:
        assert self._console is not None, f"{self.domain} does not run"
        self._orders += 1
        self._console.write(f"{self._orders} {order}\n")
        answer = self._await(f"@done {self._orders} ", 3 * least + 60)
        assert answer == "0", f"{order}: {answer}"

    def _await(self, start: str, seconds: float) -> str:
        assert self._console is not None
        deadline = time.monotonic() + seconds
        while (line := self._console.read_line(deadline)) is not None:
            if line.startswith(start):
                return line.removeprefix(start)
        said = self._log.read_text(errors="replace") if self._log.exists() else ""
        raise AssertionError(f"{self.domain} did not say {start!r}: {said[-2000:]}")


class Console:
    """The serial line of a guest."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._read = b""

    def write(self, text: str) -> None:
        """Type."""
        self._socket.sendall(text.encode())

    def read_line(self, deadline: float) -> str | None:
        """The next line, or nothing if there is none in time, or the guest is gone."""
        while b"\n" not in self._read:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                return None
            if not (more := self._socket.recv(4096)):
                return None
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        return line.decode(errors="replace").strip()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
