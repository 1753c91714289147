//! Files that the runtime writes outside.

#[test]
fn the_state_directory_is_the_owners_alone() {
    bundle!(host, bundle);
    let umask = "umask 0; ";
    bundle.script("exec sleep 600");
    let create = "exec $R create --bundle $B $ID </dev/null >$B/out 2>$B/err";
    bundle.sh(&format!("{umask} {create}")).run().ok();
    let find = format!("find {} ! -type l -perm /077 ! -type s", garth_tests::ROOT);
    assert_eq!(host.sh(&find).run().ok(), "");
    // No other user may send it `Go`.
    let find = format!("setpriv --reuid 1000 --clear-groups find {} -type s", garth_tests::ROOT);
    assert_eq!(host.sh(&find).run().stdout, "");
}

/// A pid file in a directory that others can write.
#[test]
fn a_link_in_the_place_of_a_new_pid_file_is_not_followed() {
    bundle!(host, bundle);
    host.write("/srv/victim", "precious");
    host.sh("mkdir -m 1777 /srv/tmp; ln -s /srv/victim /srv/tmp/.pid").run().ok();
    bundle.script("exec sleep 600").detach_with("--pid-file /srv/tmp/pid").ok();
    assert_eq!(host.read("/srv/victim"), "precious");
    assert_eq!(host.read("/srv/tmp/pid"), bundle.pid().to_string());
}
