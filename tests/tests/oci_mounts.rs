//! Mounts and namespaces of containers as real bundles request them, beyond the specification's
//! list.

use garth_tests::{Bundle, Host, needs};
use serde_json::json;

#[test]
fn a_mount_target_that_is_a_link_leading_nowhere_is_made_inside_the_root() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    host.write("/srv/source/file", "text\n");
    let links = "ln -s ../run/resolve/stub etc/resolv.conf; ln -s /run var-run; ln -s /a/b/../c dir; \
        ln -s ../../../../srv/out up; ln -s loop loop";
    host.sh(&format!("cd {} && {links}", bundle.rootfs(""))).run().ok();
    bundle.mount("/etc/resolv.conf", "bind", "/srv/source/file", &["bind", "ro"]);
    bundle.mount("/var-run/sub", "tmpfs", "tmpfs", &[]);
    bundle.mount("/dir", "bind", "/srv/source", &["rbind"]);
    bundle.mount("/up/deep", "tmpfs", "tmpfs", &[]);
    let script = "cat /etc/resolv.conf /run/resolve/stub /a/c/file; \
        grep -oE ' (/run/sub|/srv/out/deep) ' /proc/self/mountinfo";
    let ran = bundle.script(script).run().ok();
    assert_eq!(ran, "text\ntext\ntext\n /run/sub \n /srv/out/deep");
    assert_eq!(host.sh("ls -d /srv/out /run/resolve 2>/dev/null; true").run().ok(), "");
    bundle.mount("/loop/x", "tmpfs", "tmpfs", &[]);
    assert!(bundle.run().fails(1).contains("ELOOP"));
}

#[test]
fn a_mount_on_the_root_is_what_the_program_sees() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    host.sh(&format!("cp -a {} /srv/other && echo yes >/srv/other/mark", bundle.rootfs("")))
        .run()
        .ok();
    let mount = json!({"destination": "/", "type": "bind", "source": "/srv/other",
        "options": ["rbind", "ro"]});
    bundle.config["mounts"].as_array_mut().unwrap().insert(0, mount);
    let ran = bundle.script("cat /mark; touch /made 2>&1; ls /proc/self/comm").run().ok();
    assert!(
        ran.starts_with("yes\n") && ran.contains("Read-only") && ran.ends_with("comm"),
        "{ran}"
    );
    assert!(!host.path(&bundle.rootfs("made")).exists() && !host.path("/srv/other/made").exists());
}

#[test]
fn options_of_a_file_system_have_no_effect_on_a_bind_mount_and_a_warning_says_so() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    host.write("/srv/source/file", "here");
    let options =
        ["rbind", "rw", "mode=755", "size=64k", "z", "U", "nocopy", "X-mount.mkdir", "sync"];
    bundle.mount("/v", "bind", "/srv/source", &options);
    let ran = bundle.script("cat /v/file").run();
    assert_eq!((ran.code, &*ran.stdout), (0, "here"), "{ran}");
    for option in ["mode", "size", "z", "sync"] {
        let log = bundle.log_text();
        let said = log.lines().any(|line| line.contains("no effect") && line.contains(option));
        assert!(said, "{option}: {log}");
    }
}

#[test]
fn options_that_are_longer_than_fsconfig_takes_are_had() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    let names: Vec<String> = (0..12).map(|n| format!("/srv/{n:040}")).collect();
    host.sh(&format!(
        "mkdir {} /srv/upper /srv/work; echo low >{}/low",
        names.join(" "),
        names[11]
    ))
    .run()
    .ok();
    let lower = format!("lowerdir={}", names.join(":"));
    let options = [&*lower, "upperdir=/srv/upper", "workdir=/srv/work", "nodev", "noexec"];
    bundle.mount("/data", "overlay", "overlay", &options);
    let script = "cat /data/low; echo up >/data/up; grep ' /data ' /proc/self/mountinfo";
    let ran = bundle.script(script).run().ok();
    assert!(ran.starts_with("low\n") && ran.contains("nodev,noexec"), "{ran}");
    assert_eq!(host.read("/srv/upper/up"), "up\n");
    let many = format!("lowerdir={}", vec![&*names[0]; 100].join(":"));
    bundle.config["mounts"].as_array_mut().unwrap().pop();
    bundle.mount("/data", "overlay", "overlay", &[&*many]);
    assert!(bundle.run().fails(1).contains("mount(2) takes at most 4095"));
}

#[test]
fn what_is_given_by_name_stays_of_a_tmpfs_that_is_copied_up() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    host.sh(&format!("cd {}; mkdir -m 750 a b; chown 3:4 a b; echo x >a/file", bundle.rootfs("")))
        .run()
        .ok();
    bundle.mount("/a", "tmpfs", "t", &["tmpcopyup", "mode=1775", "uid=1000", "gid=50"]);
    bundle.mount("/b", "tmpfs", "t", &["tmpcopyup", "gid=50"]);
    let ran = bundle.script("stat -c %a:%u:%g /a /b; cat /a/file").run().ok();
    assert_eq!(ran, "1775:1000:50\n750:3:50\nx");
}

#[test]
fn a_source_below_a_private_directory_is_had_in_a_user_namespace() {
    needs!(root, userns);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    host.write("/srv/private/volume/file", "here\n");
    host.sh("chmod 700 /srv/private; mkdir /srv/private/volume/below; mount --make-shared /srv")
        .run()
        .ok();
    bundle.user_namespace(200_000);
    bundle.mount("/v", "bind", "/srv/private/volume", &["rbind", "ro"]);
    bundle.mount("/f", "bind", "/srv/private/volume/file", &["bind"]);
    bundle.mount("/w", "bind", "/srv/private/volume", &["rbind"]);
    bundle.capabilities(&["bounding", "effective", "permitted"], &["CAP_SYS_ADMIN"]);
    let script = "cat /v/file /f; mount -t tmpfs none /w/below && touch /w/below/inside; \
        touch /v/made 2>&1 | grep -o Read-only";
    assert_eq!(bundle.script(script).run().ok(), "here\nhere\nRead-only");
    // The container's own mount has not leaked out.
    assert_eq!(host.sh("ls /srv/private/volume/below").run().ok(), "");
    host.sh("mount --make-private /srv").run().ok();
}

#[test]
fn what_is_the_hosts_is_not_changed_through_a_path_to_its_namespace() {
    needs!(root);
    let host = Host::new();
    let own = "readlink /proc/self/ns/net; cat /proc/sys/net/ipv4/ip_forward; uname -n; \
        cat /proc/sys/kernel/shmmni /proc/sys/kernel/domainname";
    let before = host.sh(own).run().ok();
    for (kind, file, key, value) in [
        ("network", "net", "/linux/sysctl", json!({"net.ipv4.ip_forward": "1"})),
        ("ipc", "ipc", "/linux/sysctl", json!({"kernel.shmmni": "77"})),
        ("uts", "uts", "/hostname", json!("changed")),
        ("uts", "uts", "/domainname", json!("changed")),
        ("mount", "mnt", "/process/cwd", json!("/")),
    ] {
        let mut bundle = Bundle::new(&host);
        bundle.config.as_object_mut().unwrap().remove("hostname");
        let path = format!("/run/{file}");
        if file != "mnt" {
            host.sh(&format!("touch {path}; mount --bind /proc/self/ns/{file} {path}")).run().ok();
        }
        let path = if file == "mnt" { "/proc/self/ns/mnt" } else { &*path };
        bundle.namespace(kind, Some(path));
        let (above, name) = key.rsplit_once('/').unwrap();
        bundle.config.pointer_mut(above).unwrap()[name] = value;
        let ran = bundle.script("true").run();
        assert_ne!(ran.code, 0, "{kind} {key}: {ran}");
        assert!(ran.stderr.contains("host's") || ran.stderr.contains("caller's own"), "{ran}");
        assert_eq!(host.sh(own).run().ok(), before);
        if file != "mnt" {
            host.sh(&format!("umount /run/{file}; rm /run/{file}")).run().ok();
        }
    }
}

#[test]
fn without_pivot_no_second_proc_can_be_had_inside() {
    needs!(root, userns);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.config["linux"]["maskedPaths"] = json!(["/proc/kcore", "/proc/keys"]);
    let script = "unshare -U -r -m -p -f mount -t proc proc /mnt && echo mounted; \
        ls /proc/self/comm; ls /sys/class >/dev/null && echo sys";
    for options in ["", "--no-pivot"] {
        let ran = bundle.script(script).run_with(options);
        assert_eq!(ran.stdout, "/proc/self/comm\nsys", "{options}: {ran}");
    }
}

#[test]
fn a_joined_mount_namespace_gets_the_containers_root_and_keeps_its_own() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    let holder = host.sh("exec unshare --mount sh -c 'echo $$; exec sleep 600'").start();
    let pid = holder.line();
    bundle.namespace("mount", Some(&format!("/proc/{pid}/ns/mnt")));
    host.write(&bundle.rootfs("mark"), "own root\n");
    bundle.mount("/scratch", "tmpfs", "tmpfs", &[]);
    let ran = bundle.script("cat /mark; ls /; readlink /proc/self/ns/mnt").run().ok();
    assert!(ran.starts_with("own root\n") && ran.contains("scratch"), "{ran}");
    let there = host.sh(&format!("readlink /proc/{pid}/ns/mnt")).run().ok();
    assert!(ran.ends_with(&there), "{ran}");
    // A process that was already in it keeps its root, and the host has none of the mounts.
    let script = format!("nsenter -t {pid} -m sh -c 'test -e /etc/hostname && echo whole'");
    assert_eq!(host.sh(&script).run().ok(), "whole");
    assert_eq!(host.sh("grep -c scratch /proc/self/mountinfo; true").run().ok(), "0");
}

#[test]
fn namespaces_of_others_are_joined_beside_a_new_user_namespace() {
    needs!(root, userns);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    let holder = host.sh("exec unshare --net --uts --ipc sh -c 'echo $$; exec sleep 600'").start();
    let pid = holder.line();
    bundle.user_namespace(200_000);
    bundle.config.as_object_mut().unwrap().remove("hostname");
    for (kind, file) in [("network", "net"), ("uts", "uts"), ("ipc", "ipc")] {
        bundle.namespace(kind, Some(&format!("/proc/{pid}/ns/{file}")));
    }
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| {
        // These cannot be mounted for a network or ipc namespace that it does not own.
        !["sysfs", "mqueue"].contains(&mount["type"].as_str().unwrap())
    });
    let script = "cat /proc/self/uid_map | tr -s ' '; for n in net uts ipc; do readlink /proc/self/ns/$n; done; \
        echo $$; id -u";
    let ran = bundle.script(script).run().ok();
    let there = format!("cd /proc/{pid}/ns; readlink net uts ipc");
    let there = host.sh(&there).run().ok();
    assert_eq!(ran, format!(" 0 200000 65536\n{there}\n1\n0"));
}

#[test]
fn the_clocks_of_a_container_with_a_user_namespace_have_their_offsets() {
    needs!(root, userns);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.user_namespace(200_000);
    bundle.namespace("time", None);
    bundle.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 900_000_000}});
    let ran = bundle.script("cut -d. -f1 /proc/uptime").run().ok();
    assert!(ran.parse::<u64>().unwrap() > 900_000_000, "{ran}");
}

#[test]
fn an_id_mapped_mount_has_the_map_of_a_joined_user_namespace() {
    needs!(root, userns);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    let holder = host.sh("exec unshare --user sh -c 'echo $$; exec sleep 600'").start();
    let pid = holder.line();
    let map = format!(
        "echo 0 200000 65536 >/proc/{pid}/uid_map; echo 0 200000 65536 >/proc/{pid}/gid_map"
    );
    host.sh(&map).run().ok();
    bundle.user_namespace(200_000);
    bundle.namespace("user", Some(&format!("/proc/{pid}/ns/user")));
    let linux = bundle.config["linux"].as_object_mut().unwrap();
    linux.remove("uidMappings");
    linux.remove("gidMappings");
    host.sh("mkdir /srv/data; touch /srv/data/file; chown 7:8 /srv/data/file").run().ok();
    bundle.mount("/data", "bind", "/srv/data", &["bind", "idmap"]);
    let ran = bundle.script("stat -c %u:%g /data /data/file").run().ok();
    assert_eq!(ran, "0:0\n7:8");
}
