//! Against a real bus, on which a small Python program answers as systemd would: it prints the
//! requests it receives.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::*;
use crate::cgroup::tests::{Reaped, Scratch, wait_for};

pub(crate) struct Mock {
    address: String,
    calls: BufReader<ChildStdout>,
    _children: [Reaped; 2],
    _dir: Scratch,
}

impl Mock {
    /// `None`, with the reason printed, if there is no bus or no Python for it.
    pub(crate) fn start() -> Option<Mock> {
        let python = "/usr/bin/python3";
        let mut has = Command::new(python);
        has.args(["-c", "import dbus, gi"]).stderr(Stdio::null());
        let has = has.status().is_ok_and(|status| status.success());
        if !has || Command::new("dbus-daemon").arg("--version").output().is_err() {
            garth_needs::skip("dbus", "dbus-daemon, python3-dbus and python3-gi");
            return None;
        }
        let dir = Scratch::new();
        let socket = dir.0.join("bus");
        let address = format!("unix:path={}", socket.display());
        let mut daemon = Command::new("dbus-daemon");
        daemon.args(["--session", "--nofork", "--nopidfile", "--address", &address]);
        let daemon: Child = daemon.stderr(Stdio::null()).spawn().unwrap();
        let daemon = Reaped(daemon);
        wait_for(|| socket.exists());
        let script = dir.0.join("mock.py");
        fs::write(&script, include_str!("mock.py")).unwrap();
        let mut mock = Command::new(python);
        mock.arg(&script).arg(&address).stdout(Stdio::piped());
        let mut mock = Reaped(mock.spawn().unwrap());
        let calls = BufReader::new(mock.0.stdout.take().unwrap());
        let mut mock = Mock { address, calls, _children: [mock, daemon], _dir: dir };
        assert_eq!(mock.line(), "ready");
        Some(mock)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.calls.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// The requests up to a call of another method of ours, which marks the end.
    pub(crate) fn said(&mut self) -> Vec<String> {
        let mut bus = Bus::connect(&self.address).unwrap();
        bus.call(MANAGER, "ResetFailedUnit", &[text("the end")]).unwrap();
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            if line == "forget the end" {
                return lines;
            }
            lines.push(line);
        }
    }

    pub(crate) fn unit(&self, path: &str) -> Unit {
        Unit { bus: self.address.clone(), ..Unit::named("web", Some(path), false).unwrap() }
    }
}

fn resources(json: serde_json::Value) -> Resources {
    serde_json::from_value(json).unwrap()
}

#[test]
fn a_path_names_slice_and_scope() {
    let named = |path: Option<&str>, rootless| {
        Unit::named("web", path, rootless)
            .map(|unit| (unit.name, unit.slice, unit.path))
            .map_err(|error| error.to_string())
    };
    let same = |unit: (String, String, String), name: &str, slice: &str, path: &str| {
        assert_eq!(unit, (name.to_owned(), slice.to_owned(), path.to_owned()));
    };
    let scope = "garth-web.scope";
    same(named(None, false).unwrap(), scope, "system.slice", "/system.slice/garth-web.scope");
    same(named(Some(""), true).unwrap(), scope, "user.slice", "/user.slice/garth-web.scope");
    same(
        named(Some(":docker:abc"), false).unwrap(),
        "docker-abc.scope",
        "system.slice",
        "/system.slice/docker-abc.scope",
    );
    same(
        named(Some("a-b-c.slice:cri:abc"), false).unwrap(),
        "cri-abc.scope",
        "a-b-c.slice",
        "/a.slice/a-b.slice/a-b-c.slice/cri-abc.scope",
    );
    same(named(Some("-.slice:x:y"), false).unwrap(), "x-y.scope", "-.slice", "/x-y.scope");
    same(
        named(Some("a.slice::inner.slice"), false).unwrap(),
        "inner.slice",
        "a.slice",
        "/a.slice/inner.slice",
    );
    for path in [
        "/docker/abc",
        "a.slice:b",
        "a:b:c",
        ".slice:b:c",
        "a--b.slice:b:c",
        "-a.slice:b:c",
        "a/b.slice:b:c",
        "..slice:b:../c",
        "a.slice:b:",
        "a.slice:b:c/d",
        "a.slice:b:c d",
    ] {
        assert!(named(Some(path), false).is_err(), "{path}");
    }
}

#[test]
fn the_record_of_a_unit_fits_a_line() {
    let unit =
        Unit { bus: "unix:path=/run/a b/bus".into(), ..Unit::named("w", None, false).unwrap() };
    assert_eq!(Unit::from_text(&unit.to_text()), Some(unit));
    assert_eq!(Unit::from_text("a b c"), None);
}

#[test]
fn a_scope_is_started_with_its_limits_and_stopped() {
    let Some(mut mock) = Mock::start() else { return };
    let mut unit = mock.unit("a-b.slice:garth:web");
    for (name, value) in [("TimeoutStopSec", "2.5"), ("Description", "'a web'")] {
        unit.asked.insert(name.into(), value.into());
    }
    let limits = resources(serde_json::json!({
        "memory": { "limit": 1 << 30, "reservation": 1000, "swap": -1 },
        "cpu": { "shares": 1024, "quota": 15_001, "period": 100_000, "cpus": "0-2,9", "mems": "0" },
        "pids": { "limit": 50 },
        "devices": [{ "allow": true, "type": "c", "major": 10, "minor": 1, "access": "rw" }],
    }));
    unit.start(42, Version::V2, &limits).unwrap();
    let said = mock.said();
    let sorted = said[1..].iter().filter(|line| !line.starts_with("DeviceAllow"));
    let mut sorted: Vec<&str> = sorted.map(String::as_str).collect();
    sorted.sort_unstable();
    assert_eq!(said[0], "start garth-web.scope replace 0");
    assert_eq!(
        sorted,
        [
            "AllowedCPUs [Byte(7), Byte(2)]",
            "AllowedMemoryNodes [Byte(1)]",
            "CPUAccounting true",
            "CPUQuotaPerSecUSec UInt64(160000)",
            "CPUQuotaPeriodUSec UInt64(100000)",
            "CPUWeight UInt64(100)",
            "DefaultDependencies false",
            "Delegate true",
            "Description 'a web'",
            "DevicePolicy 'strict'",
            "IOAccounting true",
            "MemoryAccounting true",
            "MemoryLow UInt64(1000)",
            "MemoryMax UInt64(1073741824)",
            "MemorySwapMax UInt64(18446744073709551615)",
            "PIDs [UInt32(42)]",
            "Slice 'a-b.slice'",
            "TasksAccounting true",
            "TasksMax UInt64(50)",
            "TimeoutStopUSec UInt64(2500000)",
        ]
    );
    let devices = said.iter().find(|line| line.starts_with("DeviceAllow")).unwrap();
    for device in ["['/dev/char/10:1', 'rw']", "['char-*', 'm']", "['/dev/char/1:3', 'rwm']"] {
        assert!(devices.contains(device), "{devices}");
    }
    unit.update(Version::V1, &resources(serde_json::json!({ "memory": { "limit": -1 } }))).unwrap();
    unit.update(Version::V1, &Resources::default()).unwrap();
    assert_eq!(
        mock.said(),
        ["set garth-web.scope true", "MemoryLimit UInt64(18446744073709551615)"]
    );
    unit.stop().unwrap();
    unit.stop().unwrap();
    let once = ["stop garth-web.scope replace", "forget garth-web.scope"];
    assert_eq!(mock.said(), [once, once].concat());
}

#[test]
fn a_scope_that_is_there_is_not_taken_and_one_that_failed_is_forgotten() {
    let Some(mock) = Mock::start() else { return };
    let start = |name: &str| {
        let unit = mock.unit(&format!("a.slice:garth:{name}"));
        unit.start(1, Version::V1, &Resources::default()).map_err(|error| error.to_string())
    };
    start("one").unwrap();
    let words = start("one").unwrap_err();
    assert!(words.contains("systemd1.UnitExists: so it is"), "{words}");
    start("failed-before").unwrap();
    let words = start("fails").unwrap_err();
    assert_eq!(words, "StartTransientUnit garth-fails.scope: systemd says failed");
}

#[test]
fn a_scope_beside_a_unit_is_under_the_units_limits() {
    let Some(mut mock) = Mock::start() else { return };
    let (unit, _) = Unit::beside("/a.slice/a-b.slice/web.service", "box", false).unwrap();
    assert_eq!(unit.path, format!("/a.slice/a-b.slice/{}", unit.name));
    let unit = Unit { name: "garth-box-7.scope".into(), bus: mock.address.clone(), ..unit };
    unit.start_beside(42, "box").unwrap();
    assert_eq!(
        mock.said(),
        [
            "start garth-box-7.scope replace 0",
            "Description 'sandbox box'",
            "Slice 'a-b.slice'",
            "Delegate true",
            "CollectMode 'inactive-or-failed'",
            "PIDs [UInt32(42)]",
            "IOReadBandwidthMax [['/dev/vda', UInt64(5)]]",
            "IPAddressDeny [[Int32(2), [Byte(10), Byte(0), Byte(0), Byte(1)], UInt32(24)]]",
            "MemoryMax UInt64(1048576)",
            "TasksMax UInt64(77)",
        ]
    );
    unit.attach("/garth/box").unwrap();
    assert_eq!(mock.said(), ["attach garth-box-7.scope /garth/box 1"]);
}

#[test]
fn a_users_systemd_is_asked_where_it_is() {
    let Some(mock) = Mock::start() else { return };
    assert_eq!(
        manager_cgroup(&mock.address).unwrap(),
        "/user.slice/user-1000.slice/user@1000.service"
    );
}

#[test]
fn without_a_bus_the_error_says_so() {
    let dir = Scratch::new();
    for address in [format!("unix:path={}/none", dir.point()), "tcp:host=x".into(), String::new()] {
        let unit = Unit { bus: address, ..Unit::named("web", None, false).unwrap() };
        let words = unit.start(1, Version::V2, &Resources::default()).unwrap_err().to_string();
        assert!(
            words.starts_with("ask systemd for a scope: ") && words.contains("leave out"),
            "{words}"
        );
    }
}

#[test]
fn annotations_become_properties() {
    let said = |name: &str, value: &str| {
        property(name, value).map(|(name, value)| format!("{name} {value:?}"))
    };
    assert_eq!(
        said("CollectMode", "'inactive-or-failed'").unwrap(),
        "CollectMode Text(\"inactive-or-failed\")"
    );
    assert_eq!(
        said("TimeoutStopSec", "uint64 123456").unwrap(),
        "TimeoutStopUSec U64(123456000000)"
    );
    assert_eq!(said("TimeoutStopUSec", "uint64 5").unwrap(), "TimeoutStopUSec U64(5)");
    assert_eq!(said("CPUWeight", "uint64 5").unwrap(), "CPUWeight U64(5)");
    assert_eq!(said("Delegate", "true").unwrap(), "Delegate Bool(true)");
    assert_eq!(
        said("After", "['a.service', \"b.service\"]").unwrap(),
        "After Texts([\"a.service\", \"b.service\"])"
    );
    assert_eq!(said("X", "-5").unwrap(), "X I32(-5)");
    for (name, value) in [
        ("X", ""),
        ("X", "'"),
        ("X", "a"),
        ("X", "[]"),
        ("X", "['a', 5]"),
        ("X", "uint9 5"),
        ("X", "nan"),
        ("XSec", "true"),
        ("XSec", "-1"),
        ("X Y", "1"),
        ("", "1"),
    ] {
        assert!(said(name, value).is_err(), "{name} {value}");
    }
}

#[test]
fn a_limit_of_no_processes_leaves_the_first() {
    let Some(mut mock) = Mock::start() else { return };
    let unit = mock.unit("a-b.slice:garth:web");
    let limits = resources(serde_json::json!({"pids": { "limit": 0 }}));
    unit.start(42, Version::V2, &limits).unwrap();
    let said = mock.said();
    assert!(said.iter().any(|line| line == "TasksMax UInt64(1)"), "{said:#?}");
}
