//! Whose something is: what Garth has made it takes away again, and nothing else, whatever state
//! directory, name or pid namespace it is called from.

use garth_tests::{Bundle, Yard, needs};

/// How often a command calls fdatasync(2) or a relative.
fn syncs(yard: &Yard, command: &str) -> usize {
    let calls = "fdatasync,fsync,sync_file_range,syncfs";
    yard.sh(&format!("strace -f -o /srv/trace -e trace={calls} {command}")).run().ok();
    yard.read("/srv/trace").lines().filter(|line| line.contains("sync")).count()
}

#[test]
fn records_are_synced_only_where_a_reboot_leaves_them() {
    needs!(root, "strace");
    let yard = Yard::new();
    assert_eq!(syncs(&yard, "$GARTH wrap --name web -- true"), 0);
    assert_eq!(syncs(&yard, "$GARTH --root /srv/state wrap --name web -- true"), 1);
    let bundle = Bundle::new(&yard);
    bundle.save();
    let run = |root: &str| format!("$GARTH --root {root} run --bundle /srv/{0} {0}", bundle.id);
    assert_eq!(syncs(&yard, &run("/run/x")), 0);
    assert_eq!(syncs(&yard, &run("/srv/state")), 1);
}
