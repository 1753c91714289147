"""Answers as org.freedesktop.systemd1 does, and prints each call in a line."""
import sys

import dbus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib

MANAGER = "org.freedesktop.systemd1.Manager"


def words(value):
    """A value with the name of its type."""
    kind = type(value).__name__
    if isinstance(value, (dbus.Array, dbus.Struct)):
        inner = ", ".join(words(item) for item in value)
        return f"[{inner}]"
    if isinstance(value, dbus.String):
        return repr(str(value))
    if isinstance(value, dbus.Boolean):
        return "true" if value else "false"
    return f"{kind}({int(value)})"


def say(*items):
    print(*items, flush=True)


def failure(name):
    return dbus.DBusException("so it is", name=f"org.freedesktop.systemd1.{name}")


class Manager(dbus.service.Object):
    units = set()
    forgotten = set()

    def job(self, unit):
        job = f"/org/freedesktop/systemd1/job/{len(unit)}"
        result = "failed" if "fails" in unit else "done"
        # Another's comes first.
        GLib.timeout_add(10, lambda: self.JobRemoved(1, "/other", "other", "done"))
        GLib.timeout_add(20, lambda: self.JobRemoved(2, job, unit, result))
        return dbus.ObjectPath(job)

    @dbus.service.signal(MANAGER, signature="uoss")
    def JobRemoved(self, number, job, unit, result):
        return False

    @dbus.service.method(MANAGER)
    def Subscribe(self):
        pass

    @dbus.service.method(MANAGER, in_signature="ssa(sv)a(sa(sv))", out_signature="o")
    def StartTransientUnit(self, name, mode, properties, others):
        say("start", name, mode, len(others))
        if name in self.units or ("failed-before" in name and name not in self.forgotten):
            raise failure("UnitExists")
        for key, value in properties:
            say("  ", key, words(value))
        self.units.add(name)
        return self.job(name)

    @dbus.service.method(MANAGER, in_signature="sba(sv)")
    def SetUnitProperties(self, name, runtime, properties):
        say("set", name, words(runtime))
        for key, value in properties:
            say("  ", key, words(value))

    @dbus.service.method(MANAGER, in_signature="ss", out_signature="o")
    def StopUnit(self, name, mode):
        say("stop", name, mode)
        if name not in self.units:
            raise failure("NoSuchUnit")
        self.units.remove(name)
        return self.job(name)

    @dbus.service.method(MANAGER, in_signature="s")
    def ResetFailedUnit(self, name):
        say("forget", name)
        self.forgotten.add(name)

    @dbus.service.method(MANAGER, in_signature="u", out_signature="o")
    def GetUnitByPID(self, pid):
        return dbus.ObjectPath("/org/freedesktop/systemd1")

    @dbus.service.method(MANAGER, in_signature="ssau")
    def AttachProcessesToUnit(self, name, below, pids):
        say("attach", name, below, len(pids))

    @dbus.service.method("org.freedesktop.DBus.Properties", in_signature="s", out_signature="a{sv}")
    def GetAll(self, interface):
        none = dbus.UInt64(2**64 - 1)
        address = dbus.Struct((2, dbus.ByteArray(b"\x0a\x00\x00\x01"), dbus.UInt32(24)), signature="iayu")
        return {
            "Id": "web.service",
            "Delegate": dbus.Boolean(True),
            "ExecStart": dbus.Array([("/bin/x", ["x"], False, dbus.UInt64(1), 0)], "(sasbti)"),
            "MemoryMax": dbus.UInt64(1 << 20),
            "MemoryHigh": none,
            "TasksMax": dbus.UInt64(77),
            "IPAddressDeny": dbus.Array([address], "(iayu)"),
            "IPAddressAllow": dbus.Array([], "(iayu)"),
            "RestrictNetworkInterfaces": dbus.Struct((False, dbus.Array([], "s")), signature="bas"),
            "DevicePolicy": "auto",
            "IOReadBandwidthMax": dbus.Array([("/dev/vda", dbus.UInt64(5))], "(st)"),
            "AllowedCPUs": dbus.ByteArray(b""),
        }

    @dbus.service.method("org.freedesktop.DBus.Properties", in_signature="ss", out_signature="v")
    def Get(self, interface, name):
        return dbus.String("/user.slice/user-1000.slice/user@1000.service")


dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
bus = dbus.bus.BusConnection(sys.argv[1])
name = dbus.service.BusName("org.freedesktop.systemd1", bus)
manager = Manager(bus, "/org/freedesktop/systemd1", name)
say("ready")
GLib.MainLoop().run()
