//! /dev under the control of an image or of another container: masking, the console, the terminals.

use garth_tests::{Bundle, Host, Socket};
use serde_json::json;

use crate::with_intruder;

/// A container whose /dev is a volume; a script fills it.
fn with_dev(host: &Host, script: &str) -> String {
    host.sh(&format!("mkdir /srv/dev; cd /srv/dev; {script}")).run().ok();
    "/srv/dev".into()
}

fn mask(bundle: &mut Bundle, dev: &str) {
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    bundle.mount("/dev", "bind", dev, &["bind"]);
    bundle.config["linux"]["maskedPaths"] = json!(["/proc/version"]);
}

/// /dev/null has been replaced when paths are masked with it.
#[test]
fn cve_2025_31133_what_masks_is_the_null_device() {
    garth_tests::needs!(root);
    for fake in [
        "ln -s /etc/passwd null",
        "ln -s /proc/sys/kernel/core_pattern null",
        "touch null",
        "mknod null c 1 5",
        "mknod null b 1 3",
        "mkfifo null",
        "ln -s /proc/self/fd/0 null",
        "true",
    ] {
        let host = Host::new();
        let mut bundle = Bundle::new(&host);
        let dev = with_dev(&host, fake);
        mask(&mut bundle, &dev);
        let ran = bundle.script("echo it runs").run();
        assert!(ran.code != 0 && ran.stdout.is_empty(), "{fake}: {ran}");
    }
}

/// An image's own /dev.
#[test]
fn cve_2025_31133_devices_of_an_image_are_what_they_are_called() {
    garth_tests::needs!(root);
    for fake in ["ln -s /etc/passwd null", "touch null", "mknod null c 1 5", "mknod zero c 1 1"] {
        let host = Host::new();
        let mut bundle = Bundle::new(&host);
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        host.sh(&format!("cd {}; {fake}", bundle.rootfs("dev"))).run().ok();
        let ran = bundle.script("echo it runs").run();
        assert!(ran.code != 0 && ran.stdout.is_empty(), "{fake}: {ran}");
    }
}

#[test]
fn cve_2025_31133_a_race_on_the_null_device() {
    bundle!(host, bundle);
    let dev = with_dev(&host, "mknod -m 666 null c 1 3; ln -s /etc/passwd link");
    let mut attacker = Bundle::named(&host, "attacker");
    with_intruder(&attacker);
    attacker.mount("/vol", "bind", "/srv/dev", &["bind"]);
    attacker.script("exec intruder swap /vol/null /vol/link").detach().ok();
    mask(&mut bundle, &dev);
    bundle.script("wc -c </proc/version");
    for _ in 0..20 {
        let ran = bundle.run();
        assert!(ran.stdout.is_empty() || ran.stdout == "0", "{ran}");
    }
    attacker.delete_force();
}

/// /dev/console is a link to something that must not be covered.
#[test]
fn cve_2025_52565_the_console_is_not_laid_over_what_a_link_leads_to() {
    garth_tests::needs!(root);
    for link in ["victim", "../etc/passwd", "/etc/passwd", "/proc/self/fd/0", "pts/ptmx"] {
        let host = Host::new();
        let mut bundle = Bundle::new(&host);
        let dev = with_dev(&host, &format!("mkdir pts; touch victim; ln -s {link} console"));
        mask(&mut bundle, &dev);
        bundle.config["linux"]["maskedPaths"] = json!([]);
        bundle.mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666"]);
        bundle.config["process"]["terminal"] = true.into();
        let socket = Socket::listen(&host.path(&bundle.dir("console.sock")));
        let script = "for file in /dev/victim /etc/passwd; do test -c $file && echo $file; done \
            >/tmp/covered; exec sleep 600";
        let option = format!("--console-socket {}", bundle.dir("console.sock"));
        let ran = bundle.script(script).create_with(&option);
        if ran.code == 0 {
            let _terminal = socket.receive();
            bundle.start().ok();
            let covered = host.path(&bundle.rootfs("/tmp/covered"));
            garth_tests::until("it has looked", || covered.exists().then_some(()));
            std::thread::sleep(std::time::Duration::from_millis(100));
            assert_eq!(std::fs::read_to_string(covered).unwrap(), "", "{link}");
        }
    }
}

/// /dev itself is a link, out of the root file system.
#[test]
fn dev_that_is_a_link_does_not_lead_out() {
    bundle!(host, bundle);
    let place = bundle.rootfs("dev");
    host.sh(&format!("mkdir /srv/host; rmdir {place}; ln -s ../../host {place}")).run().ok();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    bundle.run();
    assert_eq!(host.sh("ls -A /srv/host").run().ok(), "");
}

/// A process inside has replaced the terminals' multiplexer with a fifo, and listens.
#[test]
fn cve_2025_52565_exec_with_a_terminal_opens_nothing_but_a_multiplexer() {
    bundle!(host, bundle);
    let dev = "/srv/dev";
    host.sh("mkdir -p /srv/dev/pts; mkfifo /srv/dev/pts/ptmx; mknod -m 666 /srv/dev/null c 1 3")
        .run()
        .ok();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    bundle.mount("/dev", "bind", dev, &["bind"]);
    bundle.script("cat </dev/pts/ptmx >/tmp/opened; echo >/tmp/was-opened; exec sleep 600");
    bundle.detach().ok();
    let socket = Socket::listen(&host.path(&bundle.dir("console.sock")));
    let words = format!("exec --tty --detach --console-socket {}", bundle.dir("console.sock"));
    let ran = bundle.call(&format!("{words} {} true", bundle.id)).run();
    assert_ne!(ran.code, 0, "{ran}");
    drop(socket);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(!host.path(&bundle.rootfs("/tmp/was-opened")).exists());
}
