//! Links and renames on the way to a mount's target.

use garth_tests::{Bundle, Host};
use serde_json::json;

use crate::with_intruder;

/// How often a race is tried.
const ROUNDS: usize = 20;

/// What the volume has in place of the target: a link to something that only exists outside.
const LINK: &str = "mkdir -p /srv/vol /srv/open /srv/secret; echo open >/srv/open/file;
    echo secret >/srv/secret/file; ln -s /srv/open /srv/vol/link; mkdir /srv/vol/dir";

/// A volume, something secret mounted in it, and, elsewhere, what is at the same path outside.
fn redirected(bundle: &mut Bundle, target: &str) {
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] == "/proc");
    bundle.mount("/vol", "bind", "/srv/vol", &["bind"]);
    bundle.mount(target, "bind", "/srv/secret", &["bind"]);
    bundle.mount("/mnt", "bind", "/srv/open", &["bind"]);
}

#[test]
fn cve_2021_30465_a_link_in_a_volume_does_not_lead_out() {
    bundle!(host, bundle);
    host.sh(LINK).run().ok();
    redirected(&mut bundle, "/vol/link");
    // Where it leads inside.
    host.sh(&format!("mkdir -p {}", bundle.rootfs("/srv/open"))).run().ok();
    let text = bundle.script("cat /mnt/file /srv/open/file").run().ok();
    assert_eq!(text, "open\nsecret");
}

/// Another container keeps exchanging the link and a directory.
#[test]
fn cve_2021_30465_a_race_on_a_target_does_not_lead_out() {
    bundle!(host, bundle);
    host.sh(LINK).run().ok();
    let mut attacker = Bundle::named(&host, "attacker");
    with_intruder(&attacker);
    attacker.mount("/vol", "bind", "/srv/vol", &["bind"]);
    attacker.script("exec intruder swap /vol/link /vol/dir").detach().ok();
    redirected(&mut bundle, "/vol/link");
    bundle.script("cat /mnt/file");
    for _ in 0..ROUNDS {
        let ran = bundle.run();
        // A refusal is as good.
        assert!(ran.stdout.is_empty() || ran.stdout == "open", "{ran}");
    }
    assert_eq!(host.sh("cat /srv/open/file; ls /srv/open").run().ok(), "open\nfile");
    attacker.delete_force();
}

/// Nor are directories and files for targets made outside.
#[test]
fn cve_2024_45310_nothing_is_made_outside() {
    bundle!(host, bundle);
    host.sh(LINK).run().ok();
    host.write("/srv/file", "");
    bundle.mount("/vol", "bind", "/srv/vol", &["bind"]);
    bundle.mount("/vol/link/new/dir", "bind", "/srv/secret", &["bind"]);
    bundle.mount("/vol/link/new/file", "bind", "/srv/file", &["bind"]);
    bundle.mount("/vol/link/new/tmpfs", "tmpfs", "tmpfs", &[]);
    bundle.config["process"]["cwd"] = "/vol/link/new/cwd".into();
    bundle.config["linux"]["devices"] = json!([
        {"path": "/vol/link/new/null", "type": "c", "major": 1, "minor": 3},
    ]);
    bundle.run();
    assert_eq!(host.sh("ls /srv/open").run().ok(), "file");
}

#[test]
fn cve_2024_45310_nothing_is_made_outside_by_a_race() {
    bundle!(host, bundle);
    host.sh(LINK).run().ok();
    let mut attacker = Bundle::named(&host, "attacker");
    with_intruder(&attacker);
    attacker.mount("/vol", "bind", "/srv/vol", &["bind"]);
    attacker.script("exec intruder swap /vol/link /vol/dir").detach().ok();
    bundle.mount("/vol", "bind", "/srv/vol", &["bind"]);
    bundle.mount("/vol/link/a/b/c/d", "bind", "/srv/secret", &["bind"]);
    for _ in 0..ROUNDS {
        bundle.run();
        assert_eq!(host.sh("ls /srv/open").run().ok(), "file");
        host.sh("rm -rf /srv/vol/dir/a").run();
    }
    attacker.delete_force();
}

/// The root file system has a link in place of `name`, into a volume with false contents.
fn refused_with_link(name: &str, fake: &str) {
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    let place = bundle.rootfs(name);
    host.sh(&format!("mkdir -p /srv/vol/{fake}; rmdir {place}; ln -s /vol/{fake} {place}"))
        .run()
        .ok();
    let volume =
        json!({"destination": "/vol", "type": "bind", "source": "/srv/vol", "options": ["bind"]});
    bundle.config["mounts"].as_array_mut().unwrap().insert(0, volume);
    let ran = bundle.script("echo it runs").run();
    assert!(ran.code != 0 && ran.stdout.is_empty(), "{name}: {ran}");
}

#[test]
fn cve_2019_19921_cve_2023_27561_proc_is_a_link() {
    garth_tests::needs!(root);
    refused_with_link("proc", "proc");
    refused_with_link("proc", "proc/self");
}

#[test]
fn cve_2023_28642_sys_is_a_link() {
    garth_tests::needs!(root);
    refused_with_link("sys", "sys");
}

/// Also where the host's own is bound there.
#[test]
fn cve_2023_28642_a_bound_proc_is_not_mounted_through_a_link() {
    bundle!(host, bundle);
    let place = bundle.rootfs("proc");
    host.sh(&format!("rmdir {place}; ln -s /mnt {place}")).run().ok();
    bundle.config["mounts"] = json!([]);
    bundle.mount("/proc", "bind", "/proc", &["rbind"]);
    let ran = bundle.script("echo it runs").run();
    assert!(ran.code != 0 && ran.stdout.is_empty(), "{ran}");
}

/// What programs and later joiners read in /proc does not come from a volume.
#[test]
fn cve_2019_16884_nothing_lies_over_a_part_of_proc() {
    bundle!(host, bundle);
    host.sh("mkdir -p /srv/fake/attr; echo x >/srv/fake/attr/exec; echo x >/srv/file").run().ok();
    let links = ["self", "sys", "1", "thread-self/attr", "sys/net/ipv4"];
    for (number, link) in links.iter().enumerate() {
        let link = format!("ln -s /proc/{link} {}", bundle.rootfs(&format!("/link{number}")));
        host.sh(&link).run().ok();
    }
    let before = bundle.config["mounts"].clone();
    let tried = [
        "/proc",
        "/proc/",
        "/proc/self",
        "/proc/self/attr",
        "/proc/sys",
        "/./proc/1",
        "//proc/1",
        "/mnt/../proc/self",
        "/proc/sys/../self",
        "/link0",
        "/link1",
        "/link2",
        "/link3",
        "/link4/",
    ];
    for target in tried {
        bundle.config["mounts"] = before.clone();
        bundle.mount(target, "bind", "/srv/fake", &["bind"]);
        let ran = bundle.script("echo it runs").run();
        assert!(ran.code != 0 && ran.stdout.is_empty(), "{target}: {ran}");
        bundle.config["mounts"] = before.clone();
        bundle.mount(target, "tmpfs", "tmpfs", &[]);
        let ran = bundle.script("echo it runs").run();
        assert!(ran.code != 0 && ran.stdout.is_empty(), "tmpfs, {target}: {ran}");
    }
    bundle.config["mounts"] = before;
    bundle.mount("/proc/self/attr/exec", "bind", "/srv/file", &["bind"]);
    let ran = bundle.script("echo it runs").run();
    assert!(ran.code != 0 && ran.stdout.is_empty(), "{ran}");
}

/// A mount's options change that mount, wherever its path leads by then.
#[test]
fn a_path_that_is_exchanged_does_not_redirect_the_options_of_a_mount() {
    bundle!(host, bundle);
    garth_tests::needs!("strace");
    bundle.sleeping();
    bundle.exec("", "mkdir -p /tmp/hub/proc").ok();
    host.write(
        "/srv/mounts.json",
        r#"[{"destination": "/tmp/hub/proc", "type": "tmpfs",
        "source": "tmpfs", "options": ["tmpcopyup", "ro", "shared"]}]"#,
    );
    // As soon as it is in place, the running container moves it, and puts a link there.
    let script = "strace -f -o /srv/trace -e trace=move_mount \
            -e inject=move_mount:delay_exit=1000000 $R mounts add $ID /srv/mounts.json & add=$!
        until $R exec $ID grep -q ' /tmp/hub/proc ' /proc/self/mountinfo; do sleep 0.01; done
        $R exec $ID sh -c 'mv /tmp/hub /tmp/moved && ln -s / /tmp/hub'
        wait $add";
    bundle.sh(script).run().ok();
    let table = bundle.exec("", "cat /proc/self/mountinfo").ok();
    let line =
        |point: &str| table.lines().rfind(|line| line.split(' ').nth(4) == Some(point)).unwrap();
    assert!(
        line("/tmp/moved/proc").contains(" ro,") && line("/tmp/moved/proc").contains("shared:"),
        "{table}"
    );
    assert!(line("/proc").contains(" rw,") && !line("/proc").contains("shared:"), "{table}");
}

/// A file system that shows its maker's namespaces would show the host's.
#[test]
fn proc_is_not_added_to_a_running_container_from_outside() {
    bundle!(host, bundle);
    bundle.sleeping();
    for kind in ["proc", "sysfs", "mqueue", "cgroup", "cgroup2"] {
        let list = format!(r#"[{{"destination": "/mnt", "type": "{kind}", "source": "x"}}]"#);
        let ran = bundle.call(&format!("mounts add {}", bundle.id)).input(&list).run();
        assert_ne!(ran.code, 0, "{kind}: {ran}");
    }
    assert_eq!(bundle.exec("", "ls /mnt").ok(), "");
}
