//! RAID volumes on a kernel that has md and iSCSI: Debian's, in qemu (`tests/guest/run`), since few machines
//! that build have them. `just raid` runs all cases, a few of them for long.

use std::path::Path;
use std::process::Command;

use garth_tests::{binary, needs};

/// Runs the cases of `tests/vm/cases/NAME.sh`; all of them must pass.
fn in_the_guest(name: &str) {
    let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest/run");
    let mut command = Command::new(runner);
    // With udev, whose rules assemble arrays by themselves.
    command.arg(name).env("GARTH", binary()).env("UDEV", "1").env("LIMIT", "1200");
    let ran = command.output();
    let ran = ran.expect("tests/guest/run runs");
    let said = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let said = said.join("\n");
    eprintln!("{said}");
    assert!(ran.status.success(), "{said}");
}

#[test]
fn volumes_survive_their_servers_and_killed_creations() {
    needs!(root, "qemu-system-x86_64", "cpio", "mdadm", "iscsid", "jq", "rsync", "udevadm");
    in_the_guest("raid");
}

#[test]
fn volumes_are_made_over_servers_that_garth_exports() {
    needs!(
        root,
        "qemu-system-x86_64",
        "cpio",
        "mdadm",
        "iscsid",
        "tgtd",
        "nbd-server",
        "jq",
        "rsync"
    );
    in_the_guest("raid-export");
}

#[test]
fn the_table_of_the_docs_is_what_the_model_gives() {
    needs!("python3");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let model = Command::new(here.join("raid-model")).output().expect("the model runs");
    assert!(model.status.success());
    let table = String::from_utf8(model.stdout).expect("text");
    let page = std::fs::read_to_string(here.join("../docs/raid.md")).expect("the page");
    assert!(page.contains(&table), "docs/raid.md lacks\n{table}");
}
