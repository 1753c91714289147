use std::ffi::OsString;
use std::fmt::Debug;
use std::os::unix::ffi::OsStringExt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::config::{Size, Span};
use crate::service::{HealthCheck, LogPlace, Restart, Rules, StopSignal};

/// With every key set to something else than its default: a new key must be added here.
fn full() -> Settings {
    let text = |text: &str| Some(text.to_owned());
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let paths = |paths: &[&str]| paths.iter().map(OsString::from).collect();
    Settings {
        publish: texts(&["8080:80", "53:53/udp"]),
        network: text("private"),
        pool4: text("10.0.0.0/16"),
        pool6: text("fd00::/64"),
        rate: text("up=1Mbit/s"),
        rate_group: text("office:up=1Mbit/s"),
        user: text("65534"),
        memory: text("64m"),
        memory_swap: text("128m"),
        cpus: text("1.5"),
        cpuset_cpus: text("0-2,4"),
        pids_limit: text("100"),
        io: texts(&["read=1MB/s:/srv"]),
        plugin: texts(&["hosts:file=/etc/hosts"]),
        rw: paths(&["/srv/a", ""]),
        volume: paths(&["data:/data"]),
        tmpfs: paths(&["/cache:size=1m"]),
        secret: paths(&["key:tls"]),
        run_dir: vec!["web".into()],
        rootfs: Some("/srv/root".into()),
        read_only: true,
        profile: Base::Compat,
        cap_add: texts(&["net_raw"]),
        cap_drop: texts(&["all"]),
        seccomp: text("unconfined"),
        allow_suid: true,
        hostname: text("web"),
        workdir: Some("/srv".into()),
        tty: true,
        env: paths(&["A=b", "C"]),
        env_file: vec!["web.env".into(), "more.env".into()],
        clear_env: true,
        name: text("web"),
        as_pid_1: true,
        ulimit: texts(&["nofile=1024:2048"]),
        sysctl: texts(&["net.core.somaxconn=1024"]),
        umask: text("027"),
        hidepid: true,
        userns: text(""),
        timens: true,
        command: paths(&["sh", "-c", ""]),
    }
}

fn full_rules() -> Rules {
    let span = |seconds: u64| Span(std::time::Duration::from_millis(seconds * 1000 + 500));
    Rules {
        after: vec!["db".into(), "cache".into()],
        reaches: vec!["mail".into()],
        restart: Restart::OnFailure(Some(5)),
        log: LogPlace::Files,
        health: Some(HealthCheck {
            command: vec!["pg_isready".into(), "".into()],
            tcp: Some(5432),
            http: Some(":80/".into()),
            interval: span(1),
            timeout: span(2),
            retries: 7,
            start_period: span(3),
        }),
        stop_signal: StopSignal(libc::SIGQUIT),
        stop_timeout: span(4),
        log_size: Size(12345),
        log_count: 9,
    }
}

/// Written and read as in records, and as in service files.
fn assert_unchanged<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let record = serde_json::to_string(value).unwrap();
    assert_eq!(serde_json::from_str::<T>(&record).unwrap(), *value, "{record}");
    let file = toml::to_string(value).unwrap();
    assert_eq!(toml::from_str::<T>(&file).unwrap(), *value, "{file}");
}

#[test]
fn what_is_written_of_settings_is_read_the_same() {
    assert_unchanged(&Settings::default());
    assert_unchanged(&full());
    // Each key by itself, beside the defaults of the others.
    for (key, value) in given(&full()).unwrap() {
        let mut one = serde_json::to_value(Settings::default()).unwrap();
        one[&key] = value;
        let one: Settings = serde_json::from_value(one).unwrap();
        assert_eq!(given(&one).unwrap().keys().collect::<Vec<_>>(), [&key]);
        assert_unchanged(&one);
    }
    let odd = OsString::from_vec(b"x\xff".to_vec());
    let odd = Settings { rw: vec![odd.clone()], workdir: Some(odd.into()), ..Settings::default() };
    assert_unchanged(&odd);
}

#[test]
fn what_is_written_of_rules_is_read_the_same() {
    assert_unchanged(&Rules::default());
    assert_unchanged(&full_rules());
    let health = Some(HealthCheck::default());
    assert_unchanged(&Rules { health, restart: Restart::UnlessStopped, ..Rules::default() });
}

#[test]
fn every_key_is_among_those_that_are_written() {
    let keys = |given: serde_json::Map<_, _>| given.keys().cloned().collect::<Vec<String>>();
    let sorted = |names: &[&str]| {
        let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(keys(given(&full()).unwrap()), sorted(key_names::<Settings>()));
    assert_eq!(keys(given(&full_rules()).unwrap()), sorted(key_names::<Rules>()));
}
