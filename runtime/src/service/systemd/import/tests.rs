#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use super::*;
use crate::facts::users::UserEntry;
use crate::service::systemd::reader::{MadeAtBoot, PathKind};
use crate::service::{Restart, StopSignal};

/// A machine that only exists in a test.
#[derive(Default)]
struct Paper {
    directories: Vec<&'static str>,
    /// With whether all may read them.
    files: BTreeMap<&'static str, (&'static str, bool)>,
    /// With its owner, and the file that says so.
    made_at_boot: Vec<(&'static str, &'static str, &'static str)>,
}

impl UnitMachine for Paper {
    fn kind(&self, path: &Path) -> Result<PathKind> {
        let path = path.to_str().unwrap();
        Ok(match () {
            () if self.directories.contains(&path) => PathKind::Directory,
            () if self.files.contains_key(path) => PathKind::Other,
            () => PathKind::Absent,
        })
    }

    fn read(&self, path: &Path) -> Result<Option<(String, bool)>> {
        let found = self.files.get(path.to_str().unwrap());
        Ok(found.map(|(text, readable)| ((*text).to_owned(), *readable)))
    }

    fn made_at_boot(&self) -> Result<Vec<MadeAtBoot>> {
        let owned = |(path, owner, file): &(&str, &str, &str)| MadeAtBoot {
            path: (*path).into(),
            owner: (*owner).into(),
            file: (*file).into(),
        };
        Ok(self.made_at_boot.iter().map(owned).collect())
    }

    fn user(&self, spec: &str) -> Option<UserEntry> {
        let (user, group) = spec.split_once(':').unwrap_or((spec, ""));
        let uid = ["root", "web", "db"].iter().position(|known| *known == user)?;
        let gid = ["root", "web", "db"].iter().position(|known| *known == group);
        let gid = if group.is_empty() { uid } else { gid? };
        Some(UserEntry {
            uid: uid as u32,
            gid: gid as u32,
            groups: Vec::new(),
            name: user.into(),
            home: format!("/var/lib/{user}"),
            shell: "/bin/sh".into(),
        })
    }
}

fn try_import(name: &str, text: &str, machine: &Paper) -> Result<Import> {
    let unit = UnitFile::parse(text)?;
    import(&UnitName::parse(name)?, &unit, "/x/a.service", machine)
}

/// A service with these lines beside its command.
fn with(lines: &str, machine: &Paper) -> Import {
    let text = format!("[Service]\nExecStart=/bin/app\n{lines}\n");
    try_import("app", &text, machine).unwrap()
}

fn on_paper(lines: &str) -> Import {
    with(lines, &Paper::default())
}

fn note<'a>(import: &'a Import, directive: &str) -> &'a ImportNote {
    let found = import.notes.iter().find(|note| note.directive.starts_with(directive));
    found.unwrap_or_else(|| panic!("no note about {directive}: {}", import.text))
}

/// Each kind of directive and what it becomes, as keys of the file.
#[test]
fn directives_become_keys() {
    let machine = Paper {
        directories: vec!["/var/lib/app", "/srv", "/opt/data", "/secret"],
        files: [("/etc/key", ("", false))].into(),
        ..Paper::default()
    };
    for (lines, expected) in [
        ("", "workdir = \"/\""),
        ("", "clear-env = true"),
        ("", "network = \"host\""),
        ("", "stop-timeout = \"1m30s\""),
        ("User=web", "user = \"web\""),
        ("User=web\nGroup=web", "user = \"web\""),
        ("User=web\nGroup=db", "user = \"web:db\""),
        ("Group=db", "user = \"root:db\""),
        ("User=1000", "user = \"1000\""),
        ("WorkingDirectory=-/srv", "workdir = \"/srv\""),
        ("User=db\nWorkingDirectory=~", "workdir = \"/var/lib/db\""),
        ("Environment=A=1 \"B=x y\" 'C=$D'", r#"env = ["A=1", "B=x y", "C=$$D"]"#),
        ("Environment=A=1 B=2\nUnsetEnvironment=A", r#"env = ["B=2"]"#),
        ("Environment=A=1\nEnvironment=\nEnvironment=B=2", r#"env = ["B=2"]"#),
        ("PassEnvironment=TZ", "env = [\"TZ\"]"),
        ("UMask=0027", "umask = \"0027\""),
        ("LimitNOFILE=1024:524288", "ulimit = [\"nofile=1024:524288\"]"),
        ("LimitCORE=infinity\nLimitMEMLOCK=64K", r#"["core=unlimited", "memlock=65536"]"#),
        ("LimitCPU=2min", "ulimit = [\"cpu=120\"]"),
        ("LimitNICE=-5", "ulimit = [\"nice=25\"]"),
        ("MemoryMax=1G", "memory = \"1g\""),
        ("MemoryLimit=512M", "memory = \"512m\""),
        ("MemoryMax=512M\nMemorySwapMax=0", "memory-swap = \"512m\""),
        ("CPUQuota=150%", "cpus = \"1.5\""),
        ("AllowedCPUs=0-1 3", "cpuset-cpus = \"0-1,3\""),
        ("TasksMax=64", "pids-limit = \"64\""),
        ("IOReadBandwidthMax=/srv 5M", "io = [\"read=5000000B/s:/srv\"]"),
        ("IOWriteIOPSMax=/srv 1K", "io = [\"wiops=1000:/srv\"]"),
        (
            "ProtectSystem=strict\nReadWritePaths=/srv -/gone +/opt/data",
            r#"rw = ["/srv", "/opt/data"]"#,
        ),
        ("StateDirectory=app", "env = [\"STATE_DIRECTORY=/var/lib/app\"]"),
        ("ProtectSystem=strict\nStateDirectory=app", "rw = [\"/var/lib/app\"]"),
        ("RuntimeDirectory=a b/c", r#"run-dir = ["#),
        ("PIDFile=/var/run/x/y.pid", "run-dir = [\"x\"]"),
        ("ReadWritePaths=/srv\nReadOnlyPaths=/srv/../srv", "volume = [\"/srv:/srv:ro\"]"),
        ("InaccessiblePaths=/secret", "tmpfs = [\"/secret:ro\"]"),
        ("InaccessiblePaths=-/etc/key", "volume = [\"/dev/null:/etc/key:ro\"]"),
        ("ProtectHome=yes", r#"tmpfs = ["/home:ro", "/root:ro"]"#),
        ("BindPaths=/srv:/data", "volume = [\"/srv:/data\"]"),
        ("BindReadOnlyPaths=/opt/data", "volume = [\"/opt/data:/opt/data:ro\"]"),
        ("TemporaryFileSystem=/x:ro,mode=0700", "tmpfs = [\"/x:ro,mode=0700\"]"),
        ("RootDirectory=/srv", "rootfs = \"/srv\""),
        ("LoadCredential=tls:/etc/key", "secret = [\"/etc/key:tls\"]"),
        ("Type=dbus", "volume = [\"/run/dbus/system_bus_socket:/run/dbus/system_bus_socket\"]"),
        ("NetworkNamespacePath=/run/netns/x", "network = \"ns:/run/netns/x\""),
        ("CapabilityBoundingSet=", "cap-drop = [\"all\"]"),
        ("CapabilityBoundingSet=CAP_SYS_NICE CAP_CHOWN", "cap-add = [\"sys_nice\"]"),
        ("CapabilityBoundingSet=~CAP_KILL CAP_SYS_ADMIN", "cap-drop = [\"kill\"]"),
        ("User=web\nAmbientCapabilities=CAP_NET_BIND_SERVICE", "cap-add = [\"net_bind_service\"]"),
        ("Restart=always", "restart = \"always\""),
        ("Restart=on-abort", "restart = \"on-failure\""),
        ("Restart=on-failure\nStartLimitBurst=4", "restart = \"on-failure:3\""),
        ("KillSignal=SIGQUIT", "stop-signal = \"QUIT\""),
        ("ExecStop=/bin/kill -s WINCH ${MAINPID}", "stop-signal = \"WINCH\""),
        ("TimeoutStopSec=5min 20s", "stop-timeout = \"5m20s\""),
        ("TimeoutSec=infinity", "stop-timeout = \"1d\""),
    ] {
        let import = with(lines, &machine);
        // Comments and line breaks aside.
        let flat: String =
            import.text.lines().map(|line| line.split("  # ").next().unwrap()).collect();
        assert!(flat.contains(expected), "{lines}: {expected}\n{}", import.text);
    }
}

#[test]
fn what_is_asked_for_is_what_is_read() {
    let import = on_paper("User=web\nRestart=on-failure\nStartLimitBurst=3\nKillSignal=INT");
    let settings = &import.service.settings;
    assert_eq!(
        (settings.command.as_slice(), settings.user.as_deref()),
        (&["/bin/app".into()][..], Some("web"))
    );
    assert_eq!(import.service.rules.restart, Restart::OnFailure(Some(2)));
    assert_eq!(import.service.rules.stop_signal, StopSignal(libc::SIGINT));
}

#[test]
fn a_unit_without_a_network_has_none() {
    for lines in
        ["PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX", "RestrictAddressFamilies=none"]
    {
        assert_eq!(on_paper(lines).service.settings.network, None, "{lines}");
    }
    for lines in [
        "PrivateNetwork=no",
        "RestrictAddressFamilies=AF_UNIX AF_INET",
        "RestrictAddressFamilies=~AF_UNIX",
        "RestrictAddressFamilies=AF_UNIX\nRestrictAddressFamilies=",
    ] {
        assert_eq!(on_paper(lines).service.settings.network.as_deref(), Some("host"), "{lines}");
    }
}

#[test]
fn nothing_is_left_out_silently() {
    for (lines, directive, says) in [
        ("Type=notify", "Type=notify", "health"),
        ("ExecReload=/bin/kill -HUP $MAINPID", "ExecReload", "garth kill app HUP"),
        ("ExecReload=/bin/app reload", "ExecReload", "garth exec"),
        ("ExecStartPost=/bin/x", "ExecStartPost", "one command"),
        ("ExecStartPre=/bin/x", "ExecStartPre", "before garth up"),
        ("SystemCallFilter=@system-service", "SystemCallFilter", "filter of its own"),
        ("Nice=5", "Nice=5", "nice"),
        ("MemoryMax=50%", "MemoryMax=50%", "a size"),
        ("TasksMax=10%", "TasksMax=10%", "a number"),
        ("RestartSec=5", "RestartSec", "doubles"),
        ("KillMode=process", "KillMode=process", "end with its command"),
        ("NoSuchThing=1", "NoSuchThing=1", "not known"),
        ("RuntimeDirectory=a\nRuntimeDirectoryMode=0700", "RuntimeDirectoryMode", "run-dir"),
        ("ReadWritePaths=-/gone", "ReadWritePaths=-/gone", "does not exist"),
        ("PrivateTmp=maybe", "PrivateTmp=maybe", "neither"),
        ("[Unit]\nConditionPathExists=/x", "ConditionPathExists=/x", "not checked"),
        ("[Unit]\nAfter=db.service network.target", "After=db.service network.target", "after ="),
        ("[Install]\nWantedBy=multi-user.target\nAlias=x", "WantedBy, Alias", "garth.service"),
        ("[Odd]\nKey=1", "Key=1", "section"),
        ("PrivateDevices=no", "PrivateDevices=no", "all the same"),
    ] {
        let import = on_paper(lines);
        let note = note(&import, directive);
        assert!(note.why.contains(says) && !note.urgent, "{lines}: {note:?}");
    }
    for (lines, directive) in [
        ("Type=forking", "Type=forking"),
        ("DynamicUser=yes", "DynamicUser"),
        ("User=nobody-here", "User=nobody-here"),
        ("EnvironmentFile=/gone", "EnvironmentFile=/gone"),
        ("ReadWritePaths=/gone", "ReadWritePaths=/gone"),
        ("ReadWritePaths=/", "ReadWritePaths=/"),
        ("StateDirectory=gone", "StateDirectory=gone"),
        ("LoadCredential=name", "LoadCredential=name"),
        ("Environment=A=%m", "Environment=A=%m"),
    ] {
        assert!(note(&on_paper(lines), directive).urgent, "{lines}");
    }
    // What every sandbox is anyway is said as such.
    let import =
        on_paper("PrivateTmp=yes\nProtectSystem=full\nProtectClock=yes\nNoNewPrivileges=1");
    let names =
        "True of every sandbox: ProtectSystem=full, PrivateTmp, NoNewPrivileges, ProtectClock.";
    assert!(import.text.contains(names), "{}", import.text);
    // An extension's directives are for somebody else.
    assert!(on_paper("X-Thing=1\n[X-Other]\nA=1").notes.is_empty());
}

#[test]
fn a_file_of_variables_is_named_if_it_reads_the_same() {
    let machine = Paper {
        files: [
            ("/etc/plain", ("# x\nA=1\nB=two words\n", true)),
            ("/etc/quoted", ("A=\"1 2\"\n", true)),
            ("/etc/private", ("A=\"1 2\"\n", false)),
            ("/etc/empty", ("# nothing\n", true)),
        ]
        .into(),
        ..Paper::default()
    };
    let import = with("EnvironmentFile=/etc/plain\nEnvironment=A=0 C=3", &machine);
    // The file counts before Environment=, unlike with wrap.
    assert_eq!(import.service.settings.env, ["C=3"]);
    assert_eq!(import.service.settings.env_file, [Path::new("/etc/plain")]);
    let import = with("EnvironmentFile=-/etc/quoted", &machine);
    assert_eq!(import.service.settings.env, ["A=1 2"]);
    let import = with("EnvironmentFile=/etc/private", &machine);
    assert!(import.service.settings.env.is_empty() && !import.text.contains("1 2"));
    assert!(note(&import, "EnvironmentFile=/etc/private").urgent);
    note(&with("EnvironmentFile=/etc/empty", &machine), "EnvironmentFile=/etc/empty");
    note(&with("EnvironmentFile=-/gone", &machine), "EnvironmentFile=-/gone");
}

#[test]
fn variables_of_the_command_are_filled_in() {
    let machine =
        Paper { files: [("/etc/app", ("OPTS=-a 'b c'\n", true))].into(), ..Paper::default() };
    let text = "[Service]\nEnvironmentFile=-/etc/app\nRuntimeDirectory=app\nUser=web\n\
        ExecStart=/bin/app $OPTS $GONE -d ${RUNTIME_DIRECTORY}/x $$HOME ${HOME} %i\n";
    let import = try_import("app@one", text, &machine).unwrap();
    let expected = ["/bin/app", "-a", "b c", "-d", "/run/app/x", "$HOME", "/var/lib/web", "one"];
    assert_eq!(import.service.settings.command, expected);
    assert_eq!(import.name, "app-one");
    assert!(import.text.contains("not set and left out: GONE"), "{}", import.text);
}

#[test]
fn daemons_that_go_to_the_background_stay_in_the_foreground() {
    for (start, expected) in [
        ("/usr/sbin/nginx -g 'daemon on; x;'", vec!["/usr/sbin/nginx", "-g", "daemon off; x;"]),
        ("/usr/sbin/nginx", vec!["/usr/sbin/nginx", "-g", "daemon off;"]),
        ("pg_ctlcluster 15-main start", vec!["pg_ctlcluster", "--foreground", "15-main", "start"]),
    ] {
        let text = format!("[Service]\nType=forking\nExecStart={start}\n");
        let import = try_import("app", &text, &Paper::default()).unwrap();
        assert_eq!(import.service.settings.command, expected);
    }
}

#[test]
fn what_a_unit_may_write_is_guessed_only_if_it_may_write_everything() {
    let machine = Paper {
        directories: vec!["/var/lib/app", "/var/log/app", "/var/lib/web", "/run/app"],
        made_at_boot: vec![
            ("/run/app", "web", "x"),
            ("/run/web-too", "web", "x"),
            ("/run/else", "db", "x"),
            ("/run/shared", "db", "app"),
        ],
        ..Paper::default()
    };
    let rw = |import: &Import| import.service.settings.rw.clone();
    let import = with("User=web\nReadWritePaths=/run/app", &machine);
    assert_eq!(rw(&import), ["/run/app", "/var/lib/app", "/var/log/app", "/var/lib/web"]);
    assert_eq!(import.service.settings.run_dir, [Path::new("web-too"), Path::new("shared")]);
    let import = with("ProtectSystem=strict", &machine);
    assert_eq!(rw(&import), ["/run/app"]);
    // What is made for another user is writable for it, too.
    let import =
        with("ExecStartPre=/bin/mkdir -p /run/x\nExecStartPre=/bin/chown web /run/x", &machine);
    // Also what tmpfiles.d makes for it.
    assert_eq!(import.service.settings.tmpfs, ["/run/x:mode=1777", "/run/shared:mode=1777"]);
    let import = with("ExecStartPre=install -d -m 755 /run/x", &machine);
    assert_eq!(import.service.settings.run_dir, [Path::new("x")]);
}

#[test]
fn units_that_are_no_service_of_one_command_are_refused() {
    for (text, says) in [
        ("[Service]\nType=oneshot\nExecStart=/bin/a\nExecStart=/bin/b\n", "2 commands"),
        ("[Service]\nExecStart=/bin/a ; /bin/b\n", "2 commands"),
        ("[Service]\nExecStart=/bin/a\nExecStart=\n", "no ExecStart="),
        ("[Unit]\nDescription=x\n", "no ExecStart="),
        ("[Service]\nExecStart=/bin/a \"b\n", "ExecStart: a quote is not closed"),
        ("[Service]\nExecStart=/bin/a %m\n", "%m depends on the machine"),
        ("[Service]\nExecStart\n", "line 2"),
    ] {
        let error = try_import("app", text, &Paper::default()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// No text of a unit can break out of the comments or the texts of the file.
#[test]
fn odd_text_stays_what_it_is() {
    let odd = "[Unit]\nDescription=a\\x0a[service.b] \u{85}\u{2028}\n[Service]\n\
        ExecStart=/bin/a \"\\n\\\"]\\n[service.c]\" '${X}' \\u001b\n\
        Environment=\"A=#\\n'''\"\nFoo\u{7f}=\"x\n";
    let import = try_import("app", odd, &Paper::default()).unwrap();
    let file = ServiceFile::parse(&import.text, Path::new("x"), &|_| None).unwrap();
    assert_eq!(file.services.len(), 1);
    assert_eq!(import.service.settings.command, ["/bin/a", "\n\"]\n[service.c]", "", "\u{1b}"]);
    assert_eq!(import.service.settings.env, ["A=#\n'''"]);
}

/// What the fuzzer looks for, for a moment: texts with parts that were left out, doubled, or put
/// elsewhere.
#[test]
fn whatever_is_written_is_read_as_one_service() {
    const SEED: &str = include_str!("../../../../../tests/fuzz/seeds/unit/everything.service");
    const ODD: [&str; 16] = [
        "\"", "'", "\\", "$", "%", "=", "\n", ";", ":", "~", "-", "[", "]", "\u{85}", "é", "\u{7f}",
    ];
    let machine = Paper {
        directories: vec!["/srv", "/opt/data", "/var/lib/app", "/secret"],
        files: [("/etc/plain", ("A=1\n", true)), ("/etc/quoted", ("OPTS='x y'\n", true))].into(),
        made_at_boot: vec![("/run/web", "web", "x")],
    };
    import(&UnitName::parse("a@b").unwrap(), &UnitFile::parse(SEED).unwrap(), "", &machine)
        .unwrap();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |most: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % most as u64) as usize
    };
    let mut taken = 0;
    for _ in 0..3000 {
        let mut text: Vec<char> = SEED.chars().collect();
        for _ in 0..=below(4) {
            let at = below(text.len());
            let end = (at + 1 + below(8)).min(text.len());
            match below(4) {
                0 => drop(text.drain(at..end)),
                1 => text.splice(at..at, ODD[below(ODD.len())].chars()).for_each(drop),
                2 => text.splice(at..end, ODD[below(ODD.len())].chars()).for_each(drop),
                _ => {
                    let part: Vec<char> = text[at..end].to_vec();
                    let to = below(text.len());
                    text.splice(to..to, part).for_each(drop);
                }
            }
        }
        let text: String = text.into_iter().collect();
        match try_import("a@b", &text, &machine) {
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
            Ok(import) => {
                taken += 1;
                let file = ServiceFile::parse(&import.text, Path::new("x"), &|_| None).unwrap();
                assert_eq!(file.services.len(), 1, "{}", import.text);
            }
        }
    }
    assert!(taken > 1000, "{taken}");
}
