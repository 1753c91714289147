//! What a command finds inside: what it may do, what it sees, what it was not given.

use garth_tests::{Host, needs};

/// The value of a line `name: value`.
fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim()
}

/// The capability sets, one per line.
fn capabilities(status: &str) -> [&str; 5] {
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|set| field(status, set))
}

const NONE: &str = "0000000000000000";

#[test]
fn a_user_has_no_privilege_and_cannot_get_any() {
    needs!(root);
    let host = Host::new();
    for words in ["wrap -u nobody", "wrap --cap-drop all"] {
        let status = host.garth(&format!("{words} -- cat /proc/self/status")).run().ok();
        assert_eq!(field(&status, "CapEff"), NONE, "{words}");
        assert_eq!(field(&status, "CapPrm"), NONE, "{words}");
        assert_eq!(field(&status, "NoNewPrivs"), "1");
        assert_eq!(field(&status, "Seccomp"), "2");
    }
    host.assert_nothing_left();
}

#[test]
fn root_has_what_daemons_need_to_become_someone_else_and_no_more() {
    needs!(root);
    let host = Host::new();
    let status = host.garth("wrap -- cat /proc/self/status").run().ok();
    // chown, dac_override, fowner, kill, setgid, setuid, net_bind_service, sys_chroot
    let daemons = "00000000000404eb";
    assert_eq!(capabilities(&status), [NONE, daemons, daemons, daemons, NONE]);
    assert_eq!(field(&status, "NoNewPrivs"), "1");
    assert_eq!(field(&status, "Seccomp"), "2");
}

#[test]
fn a_capability_asked_for_is_the_only_one() {
    needs!(root);
    let host = Host::new();
    let words = "wrap --cap-drop all --cap-add NET_RAW -- cat /proc/self/status";
    let raw = "0000000000002000";
    assert_eq!(capabilities(&host.garth(words).run().ok()), [NONE, raw, raw, raw, NONE]);
}

#[test]
fn the_user_is_the_one_asked_for() {
    needs!(root);
    let host = Host::new();
    let id =
        |user: &str| host.garth(&format!("wrap -u {user}")).script("id -u; id -g; id -G").run();
    assert_eq!(id("nobody").ok(), "65534\n65534\n65534");
    assert_eq!(id("nobody:daemon").ok(), "65534\n1\n1");
    assert_eq!(id("1234:5678").ok(), "1234\n5678\n5678");
}

#[test]
fn a_program_copied_to_tmp_is_refused() {
    needs!(root);
    let host = Host::new();
    let ran = host.garth("wrap").script("cp /bin/true /tmp/x && chmod +x /tmp/x && /tmp/x").run();
    assert!(ran.fails(126).contains("Permission denied"));
}

#[test]
fn tmp_is_empty_private_and_gone_in_the_end() {
    needs!(root);
    let host = Host::new();
    let name = format!("garth-suite-{}", std::process::id());
    let _outside = host.sh(&format!("touch /tmp/{name}-outside; ls /tmp")).run().ok();
    let inside = host.garth("wrap").script(&format!("touch /tmp/{name}; ls -A /tmp")).run().ok();
    assert_eq!(inside, name);
    let outside = host.sh(&format!("ls /tmp; rm /tmp/{name}-outside")).run().ok();
    assert!(!outside.lines().any(|file| file == name));
    host.assert_nothing_left();
}

#[test]
fn nothing_in_tmp_is_executed_nor_a_device() {
    needs!(root);
    let host = Host::new();
    let table = host.garth("wrap -- cat /proc/self/mountinfo").run().ok();
    let mount = table.lines().find(|line| line.contains(" /tmp ")).unwrap();
    for option in ["noexec", "nosuid", "nodev"] {
        assert!(mount.contains(option), "{mount}");
    }
}

#[test]
fn nothing_can_be_written_but_what_was_opened() {
    needs!(root);
    let host = Host::new();
    host.write("/srv/open/file", "");
    host.write("/srv/shut/file", "");
    for dir in ["/etc", "/usr", "/srv/shut", "/"] {
        let touch = host.garth("wrap --rw /srv/open").script(&format!("touch {dir}/garth-suite"));
        assert!(touch.run().fails(1).contains("Read-only file system"), "{dir}");
    }
    host.garth("wrap --rw /srv/open").script("echo text >/srv/open/file").run().ok();
    assert_eq!(host.read("/srv/open/file"), "text\n");
}

#[test]
fn a_volume_is_there_and_read_only_when_asked() {
    needs!(root);
    let host = Host::new();
    host.write("/srv/data/file", "");
    host.garth("wrap -v /srv/data:/mnt").script("echo text >/mnt/file").run().ok();
    assert_eq!(host.read("/srv/data/file"), "text\n");
    let write = host.garth("wrap -v /srv/data:/mnt:ro").script("cat /mnt/file; echo x >/mnt/file");
    let ran = write.run();
    assert_eq!(ran.stdout, "text");
    assert!(ran.stderr.contains("Read-only file system"), "{ran}");
    host.assert_nothing_left();
}

#[test]
fn a_tmpfs_has_the_options_asked_for() {
    needs!(root);
    let host = Host::new();
    let script = "stat -c %a /mnt; stat -f -c '%T %b %s' /mnt; echo x >/mnt/x && cat /mnt/x";
    let ran = host.garth("wrap --tmpfs /mnt:size=1m,mode=0751").script(script).run();
    assert_eq!(ran.ok(), "751\ntmpfs 256 4096\nx");
}

#[test]
fn the_kernels_own_files_are_out_of_reach() {
    needs!(root);
    let host = Host::new();
    for file in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware/acpi/tables/DSDT"]
    {
        let ran = host.garth("wrap").script(&format!("head -c1 {file} | wc -c")).run();
        assert_eq!(ran.ok(), "0", "{file}");
    }
    for file in ["/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/irq/1/smp_affinity"]
    {
        let ran = host.garth("wrap --cap-add SYS_ADMIN").script(&format!("echo x >{file}")).run();
        assert_ne!(ran.code, 0, "{file}");
    }
}

#[test]
fn only_the_sandboxs_processes_are_seen() {
    needs!(root);
    let host = Host::new();
    let script = "echo $PPID $$; ls -d /proc/[0-9]*";
    // A tiny init and the shell.
    let ran = host.garth("wrap").script(script).run().ok();
    assert_eq!(ran, "1 2\n/proc/1\n/proc/2");
    let ran = host.garth("wrap --as-pid-1").script(script).run().ok();
    assert_eq!(ran, "0 1\n/proc/1");
}

#[test]
fn the_first_process_cannot_be_read_by_a_user_nor_its_program_be_written_by_root() {
    needs!(root);
    let host = Host::new();
    for file in ["mem", "environ", "maps", "exe", "fd/"] {
        let cat = format!("ls /proc/1/{file} && cat /proc/1/{file}");
        let ran = host.garth("wrap -u nobody").script(&cat).run();
        assert!(ran.code != 0 && ran.stderr.contains("Permission denied"), "{file}: {ran}");
    }
    let ran = host.garth("wrap --cap-add all").script("echo x >/proc/1/exe").run();
    assert_ne!(ran.code, 0, "{ran}");
}

#[test]
fn the_host_name_is_the_sandboxs_own() {
    needs!(root);
    let host = Host::new();
    assert_eq!(host.garth("wrap --hostname shed -- uname -n").run().ok(), "shed");
    assert_ne!(host.sh("uname -n").run().ok(), "shed");
}

#[test]
fn no_mount_tells_where_garth_lives() {
    needs!(root);
    let host = Host::new();
    let table = host.garth("wrap -- cat /proc/self/mountinfo").run().ok();
    // Where services are on record is known, and hidden.
    let told = |line: &&str| !line.contains(" /var/lib/garth ");
    let table = table.lines().filter(told).collect::<Vec<_>>().join("\n");
    for path in ["garth", "/run/netns", "put_old", "oldroot"] {
        assert!(!table.contains(path), "{path} in {table}");
    }
}

#[test]
fn no_open_file_comes_along() {
    needs!(root);
    let host = Host::new();
    // The fourth is the directory that ls reads.
    let script = "exec $GARTH wrap -- ls /proc/self/fd 5</etc/passwd 7</ 90</dev/null";
    assert_eq!(host.sh(&format!("bash -c '{script}'")).run().ok(), "0\n1\n2\n3");
}

#[test]
fn signals_are_as_new() {
    needs!(root);
    let host = Host::new();
    let status = host
        .sh("env --block-signal=USR1,TERM --ignore-signal=HUP,INT,PIPE,CHLD \
             $GARTH wrap -- cat /proc/self/status")
        .run()
        .ok();
    for set in ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"] {
        assert_eq!(field(&status, set), "0000000000000000", "{set}");
    }
}

#[test]
fn the_umask_is_the_usual() {
    needs!(root);
    let host = Host::new();
    let ran = host.sh("umask 0077; exec $GARTH wrap -- sh -c umask").run();
    assert_eq!(ran.ok(), "0022");
}

#[test]
fn the_session_keyring_is_not_the_callers() {
    needs!(root, "/usr/bin/python3");
    let host = Host::new();
    // keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, create)
    let python = "import ctypes; c = ctypes.CDLL(None, use_errno=True); \
        print(c.syscall(250, 0, -3, 1))";
    let script = format!("/usr/bin/python3 -c '{python}'");
    let outside = host.sh(&script).run().ok();
    let inside = host.garth("wrap --seccomp unconfined").script(&script).run().ok();
    assert_ne!(inside, outside);
    // With the default filter there is no keyctl at all.
    assert_eq!(host.garth("wrap").script(&script).run().ok(), "-1");
}

#[test]
fn a_filter_as_firecracker_has_it_is_in_force() {
    needs!(root);
    let host = Host::new();
    let filter = r#"{"main": {"default_action": "allow", "filter_action": {"errno": 13},
        "filter": [{"syscall": "mkdir"}, {"syscall": "mkdirat"}]}}"#;
    host.write("/srv/filter.json", filter);
    let script = "mkdir /tmp/new 2>&1; touch /tmp/file && grep Seccomp: /proc/self/status";
    let told = host.garth("wrap --seccomp /srv/filter.json").script(script).run().ok();
    assert!(told.contains("Permission denied") && told.contains("Seccomp:\t2"), "{told}");
    let explained = host.garth("explain wrap --seccomp /srv/filter.json -- true").run().ok();
    assert!(explained.contains("--seccomp /srv/filter.json"), "{explained}");
    host.write("/srv/filter.json", &filter.replace("mkdirat", "makedir"));
    let ran = host.garth("wrap --seccomp /srv/filter.json -- true").run();
    ran.refused(125, "--seccomp /srv/filter.json: invalid syscall name: makedir");
}

#[test]
fn the_environment_is_what_was_given() {
    needs!(root);
    let host = Host::new();
    host.write("/srv/env", "# colours\nFRUIT=apple\n\nTREE=oak\n");
    let words = "wrap -e COLOUR=green --env-file /srv/env";
    let ran = host.garth(words).env("SECRET", "x").script("echo $COLOUR $FRUIT $TREE").run();
    assert_eq!(ran.ok(), "green apple oak");
}

#[test]
fn the_working_directory_is_the_one_asked_for() {
    needs!(root);
    let host = Host::new();
    assert_eq!(host.garth("wrap -w /usr/share -- pwd").run().ok(), "/usr/share");
}

#[test]
fn a_root_file_system_of_its_own_is_all_there_is() {
    needs!(root, "busybox");
    let host = Host::new();
    host.sh("mkdir -p /srv/root/bin && cp $(command -v busybox) /srv/root/bin/busybox").run().ok();
    let ran = host.garth("wrap --rootfs /srv/root -- /bin/busybox ls /").run().ok();
    assert!(ran.contains("bin") && !ran.contains("home"), "{ran}");
}

#[test]
fn limits_hold() {
    needs!(root, cgroups);
    let host = Host::new();
    let ran = host.garth("wrap --ulimit nofile=64:128").script("ulimit -Sn; ulimit -Hn").run();
    assert_eq!(ran.ok(), "64\n128");
    // Ten processes at most: init, the shell, and eight of these.
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done; wait";
    let ran = host.garth("wrap --pids-limit 10").script(script).run();
    assert!(ran.stderr.contains("fork"), "{ran}");
    let script = "head -c 64m /dev/zero | tail -c 64m >/dev/null; echo $?";
    let ran = host.garth("wrap --memory 16m").script(script).run();
    assert_ne!(ran.stdout, "0", "{ran}");
    host.assert_nothing_left();
}

#[test]
fn a_sysctl_of_the_sandbox_can_be_set() {
    needs!(root, netns);
    let host = Host::new();
    let words = "wrap --network private --sysctl net.core.somaxconn=77";
    let ran = host.garth(words).script("cat /proc/sys/net/core/somaxconn").run();
    assert_eq!(ran.ok(), "77");
}

#[test]
fn without_a_network_there_is_only_loopback() {
    needs!(root);
    let host = Host::new();
    for words in ["wrap", "wrap --network none"] {
        let links = host.garth(words).script("ls /sys/class/net; cat /proc/net/dev").run().ok();
        assert!(links.contains("lo:") && links.matches(':').count() == 1, "{links}");
    }
}

#[test]
fn the_host_network_and_a_network_of_someone_else_can_be_used() {
    needs!(root, netns);
    let host = Host::with_neighbour();
    let ask = |network: &str| {
        let words = format!("wrap --network {network} -- readlink /proc/self/ns/net");
        host.garth(&words).run().ok()
    };
    let own = "readlink /proc/self/ns/net";
    assert_eq!(ask("host"), host.sh(own).run().ok());
    assert_eq!(ask("ns:/run/netns/lan"), host.neighbour(own).run().ok());
}

#[test]
fn the_compatible_profile_changes_tmp_and_nothing_else() {
    needs!(root);
    let host = Host::new();
    let script = "grep -E '^(Cap|NoNew|Seccomp:|Uid|Gid|Groups)' /proc/self/status; umask; \
        uname -n; ls -l /proc/self/ns | grep -E ' (net|pid|user|uts|ipc|cgroup) ' | cut -d'>' -f2; \
        awk '$5 != \"/tmp\" { print $5, $6 }' /proc/self/mountinfo";
    let outside = host.sh(script).run().ok();
    let inside = host.garth("wrap --profile compat").script(script).run().ok();
    for line in outside.lines() {
        assert!(inside.lines().any(|other| other == line), "{line} is not inside");
    }
    assert_eq!(inside.lines().count(), outside.lines().count(), "{inside}");
    let name = format!("garth-suite-compat-{}", std::process::id());
    let run = format!("cp /bin/true /tmp/{name}; chmod +x /tmp/{name}; /tmp/{name}");
    let ran = host.garth("wrap --profile compat").script(&run).run();
    assert!(ran.fails(126).contains("Permission denied"));
    assert!(!std::fs::exists(format!("/tmp/{name}")).is_ok_and(|there| there));
}

#[test]
fn input_and_output_pass_through() {
    needs!(root);
    let host = Host::new();
    let ran = host.garth("wrap").script("cat; echo error >&2").input("hello").run();
    assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (0, "hello", "error"));
}

/// Where Java and Node look for it, and nothing else of the trees.
#[test]
fn the_limits_are_seen_inside() {
    needs!(root, userns, cgroups, "node");
    let host = Host::new();
    for words in ["", "--network host", "--userns=100000:65536"] {
        let wrap = format!("wrap {words} --memory 96m --");
        let node = host.garth(&format!("{wrap} node -p")).arg("process.constrainedMemory()");
        assert_eq!(node.run().ok(), (96 << 20).to_string(), "{words}");
        let look =
            "cd /sys/fs/cgroup; cat memory.max memory/memory.limit_in_bytes; ls -d * */garth";
        let said = host.garth(&wrap).arg("sh").arg("-c").arg(look).run().stdout;
        assert!(said.starts_with(&(96 << 20).to_string()) && !said.contains("garth"), "{said}");
        let write = "echo 1 >/sys/fs/cgroup/memory.max || echo 1 >/sys/fs/cgroup/memory/memory.limit_in_bytes";
        assert_ne!(host.garth(&wrap).arg("sh").arg("-c").arg(write).run().code, 0, "{words}");
    }
    // Without a limit there is nothing to see.
    assert_eq!(host.garth("wrap -- ls /sys/fs/cgroup").run().ok(), "");
}

#[test]
fn the_host_name_inside_has_an_address() {
    needs!(root, netns, "getent");
    let host = Host::new();
    // A hosts file made by the test, in which the name is another machine's.
    host.sh("cp /etc/hosts /srv/hosts; echo 192.0.2.9 web >>/srv/hosts; mount --bind /srv/hosts /etc/hosts")
        .run()
        .ok();
    let show = "-- sh -c";
    let ask =
        "getent ahosts $(hostname) | head -n 1 | cut -d ' ' -f 1; getent hosts web | tail -n 1";
    for (words, own) in [("", "127.0.1.1"), ("--network host --hostname other", "127.0.1.1")] {
        let said = host.garth(&format!("wrap {words} {show}")).arg(ask).run().ok();
        let lines: Vec<&str> = said.lines().collect();
        // Names known to the host are known inside.
        assert!(lines[0] == own && lines[1].starts_with("192.0.2.9"), "{words}: {said}");
    }
    let ask = "getent ahostsv4 web | head -n 1 | cut -d ' ' -f 1; ip -4 -o addr show eth0";
    let said = host.garth(&format!("wrap --name web --network private {show}")).arg(ask).run().ok();
    let own = said.lines().next().unwrap();
    assert!(own != "192.0.2.9" && said.contains(&format!("inet {own}/")), "{said}");
    // It is not writable, and a mount requested in its place is there.
    let write = "echo 127.0.0.1 example.org >>/etc/hosts";
    assert!(host.garth("wrap -- sh -c").arg(write).run().stderr.contains("Read-only file system"));
    host.write("/srv/mine", "192.0.2.7 mine\n");
    for words in ["-v /srv/mine:/etc/hosts", "--profile compat -v /srv/mine:/etc/hosts"] {
        let said = host.garth(&format!("wrap {words} -- cat /etc/hosts")).run().ok();
        assert_eq!(said, "192.0.2.7 mine", "{words}");
    }
    assert!(!host.read("/srv/hosts").contains("127.0.1.1 garth"));
    host.sh("umount /etc/hosts").run().ok();
    host.assert_nothing_left();
}

#[test]
fn a_secret_is_a_file_of_the_command_alone() {
    needs!(root, "python3");
    let host = Host::new();
    host.write("/srv/key", "hunter2\n");
    host.sh("chmod 600 /srv/key; seq 100000 > /srv/long").run().ok();
    let look = "cat /run/secrets/tls; stat -c '%a %U' /run/secrets /run/secrets/tls
        wc -c < /run/secrets/long; ls /run/secrets | xargs";
    let wrap = "wrap -u nobody --secret /srv/key:tls --secret /srv/long";
    let seen = host.garth(wrap).script(look).run().ok();
    assert_eq!(seen, "hunter2\n500 nobody\n400 nobody\n588895\nlong tls");
    // It can neither be changed, nor is it anywhere else.
    for change in ["echo x > /run/secrets/tls", "rm -f /run/secrets/tls", "touch /run/secrets/x"] {
        assert_ne!(
            host.garth("wrap --secret /srv/key:tls").script(change).run().code,
            0,
            "{change}"
        );
    }
    host.garth("wrap -d --name web --secret /srv/key:tls sleep 1000").run().ok();
    assert_eq!(host.garth("exec web cat /run/secrets/tls").run().ok(), "hunter2");
    assert_eq!(
        host.sh("grep -r hunter2 /run/garth /proc/mounts; env | grep hunter").run().stdout,
        ""
    );
    assert_eq!(host.garth("exec web env").run().ok().matches("hunter").count(), 0);
    // What runs already does not need the file.
    host.sh("rm /srv/key").run().ok();
    assert_eq!(host.garth("exec web cat /run/secrets/tls").run().ok(), "hunter2");
    host.garth("delete --force web").run().ok();
    host.write("/srv/key", "x");
    let explained = host.garth("explain wrap --secret /srv/key true").run().ok();
    assert!(
        explained.contains("write /run/secrets/key (1 bytes, mode 0400, 0:0)  [--secret]"),
        "{explained}"
    );
    for (flags, says) in [
        ("--secret /srv/none", "--secret /srv/none: ENOENT"),
        ("--secret /srv/key: ", "its name is no file name"),
        ("--secret /srv/key --secret /srv/long:key", "another one is named key"),
        ("--secret /srv/key --profile compat", "no /run of its own"),
        ("--secret /dev/zero", "more than 1m"),
    ] {
        host.garth(&format!("wrap {flags} -- true")).run().refused(125, says);
    }
    host.assert_nothing_left();
}

#[test]
fn a_process_that_joins_sees_what_the_command_sees() {
    needs!(root);
    let host = Host::new();
    host.write("/srv/dir/here", "volume\n");
    host.write("/run/secret", "of the host\n");
    let root = "mkdir -p /srv/root/bin /srv/root/run && cp /bin/busybox /srv/root/bin/cat
        cp /bin/busybox /srv/root/bin/sleep && echo volume > /srv/root/here";
    host.sh(root).run().ok();
    for (nth, (words, file)) in [
        ("-v /srv/dir:/mnt", "/mnt/here"),
        // Mount points that are missing: a new root over the view of the host, twice.
        ("-v /srv/dir:/missing", "/missing/here"),
        ("--tmpfs /other -v /srv/dir:/missing/more", "/missing/more/here"),
        ("--userns=100000:65536 -v /srv/dir:/missing", "/missing/here"),
        // Another root over it, as asked for; and both.
        ("-v /srv/root:/", "/here"),
        ("-v /srv/root:/:ro -v /srv/dir:/missing", "/missing/here"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("joined{nth}");
        host.garth(&format!("wrap -d --name {name} {words} sleep 1000")).run().ok();
        let cat = |file: &str| host.garth(&format!("exec {name} cat {file}")).run();
        assert_eq!(cat(file).ok(), "volume", "{words}");
        assert_ne!(cat("/run/secret").code, 0, "{words}");
        // No mount of the host's is left beneath.
        let first = format!("$(readlink /run/garth/sandboxes/{name}/process | cut -d' ' -f1)");
        let mounts = host.sh(&format!("cat /proc/{first}/mountinfo")).run().ok();
        let roots = mounts.lines().filter(|line| line.split(' ').nth(4) == Some("/")).count();
        assert_eq!(roots, 1, "{words}: {mounts}");
        host.garth(&format!("kill {name} KILL")).run().ok();
        host.garth(&format!("wait {name}")).run();
    }
    host.garth("gc").run().ok();
    host.assert_nothing_left();
}
