//! root: path, readonly; rootfsPropagation.

use serde_json::json;

use crate::{mount_of, refused};

#[test]
fn it_is_the_root_of_the_process() {
    bundle!(host, bundle);
    let names = bundle.script("ls / | tr '\\n' ' '").run().ok();
    assert_eq!(names, "bin dev etc home mnt proc root sys tmp");
}

#[test]
fn it_can_be_written() {
    bundle!(host, bundle);
    bundle.script("echo text >/made").run().ok();
    assert_eq!(host.read(&bundle.rootfs("made")), "text\n");
}

#[test]
fn readonly() {
    bundle!(host, bundle);
    bundle.config["root"]["readonly"] = true.into();
    let text = bundle.script("touch /made 2>&1; touch /dev/shm/made && echo shm").run().ok();
    assert!(text.contains("Read-only file system") && text.contains("shm"), "{text}");
    assert!(mount_of(&mut bundle, "/").options.contains(&"ro".to_owned()));
}

#[test]
fn an_absolute_path() {
    bundle!(host, bundle);
    host.sh(&format!("mv {} /srv/elsewhere", bundle.rootfs(""))).run().ok();
    bundle.config["root"]["path"] = "/srv/elsewhere".into();
    assert_eq!(bundle.script("echo runs").run().ok(), "runs");
}

#[test]
fn a_path_that_is_not_there_is_refused() {
    bundle!(host, bundle);
    bundle.config["root"]["path"] = "nothing".into();
    refused(&mut bundle);
}

#[test]
fn a_path_that_is_a_file_is_refused() {
    bundle!(host, bundle);
    host.write(&bundle.dir("file"), "");
    bundle.config["root"]["path"] = "file".into();
    refused(&mut bundle);
}

#[test]
fn nothing_of_the_host_is_mounted() {
    bundle!(host, bundle);
    let table = bundle.script("cat /proc/self/mountinfo").run().ok();
    for line in table.lines() {
        let point = line.split(' ').nth(4).unwrap();
        let known = ["/", "/proc", "/dev", "/sys"].contains(&point)
            || ["/proc/", "/dev/", "/sys/"].iter().any(|dir| point.starts_with(dir));
        assert!(known, "{point} is mounted:\n{table}");
    }
}

#[test]
fn no_pivot() {
    bundle!(host, bundle);
    let ran = bundle.script("ls / | head -n 1; touch /made").run_with("--no-pivot");
    assert_eq!(ran.ok(), "bin");
    host.read(&bundle.rootfs("made"));
}

fn propagation(value: &str) -> Vec<String> {
    let host = garth_tests::Host::new();
    let mut bundle = garth_tests::Bundle::new(&host);
    // Shared, so that there is something to be a slave of.
    host.sh("mount --make-shared /srv").run().ok();
    bundle.config["linux"]["rootfsPropagation"] = value.into();
    let found = mount_of(&mut bundle, "/").propagation;
    host.sh("mount --make-private /srv").run().ok();
    found
}

#[test]
fn propagation_private() {
    garth_tests::needs!(root);
    assert_eq!(propagation("private"), [""; 0]);
}

#[test]
fn propagation_slave() {
    garth_tests::needs!(root);
    let found = propagation("slave");
    assert!(found.len() == 1 && found[0].starts_with("master:"), "{found:?}");
}

#[test]
fn propagation_shared() {
    garth_tests::needs!(root);
    let found = propagation("shared");
    assert!(found.iter().any(|word| word.starts_with("shared:")), "{found:?}");
}

#[test]
fn propagation_unbindable() {
    garth_tests::needs!(root);
    assert_eq!(propagation("unbindable"), ["unbindable"]);
}

#[test]
fn an_unknown_propagation_is_refused() {
    bundle!(host, bundle);
    bundle.config["linux"]["rootfsPropagation"] = "sideways".into();
    refused(&mut bundle);
}

#[test]
fn no_root_is_refused() {
    bundle!(host, bundle);
    bundle.config["root"] = json!(null);
    refused(&mut bundle);
}
