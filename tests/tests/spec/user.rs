//! process.user.

use serde_json::json;

#[test]
fn uid_and_gid() {
    bundle!(host, bundle);
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 100});
    assert_eq!(bundle.script("id -u; id -g; id -G").run().ok(), "1000\n100\n100");
}

#[test]
fn ids_that_no_file_knows() {
    bundle!(host, bundle);
    bundle.config["process"]["user"] = json!({"uid": 4_000_000, "gid": 3_000_000});
    assert_eq!(bundle.script("id -u; id -g").run().ok(), "4000000\n3000000");
}

#[test]
fn real_effective_saved_and_file_system_ids_are_the_same() {
    bundle!(host, bundle);
    bundle.config["process"]["user"] = json!({"uid": 7, "gid": 8});
    let text = bundle.script("grep -E '^(Uid|Gid):' /proc/self/status").run().ok();
    assert_eq!(text, "Uid:\t7\t7\t7\t7\nGid:\t8\t8\t8\t8");
}

#[test]
fn additional_gids() {
    bundle!(host, bundle);
    bundle.config["process"]["user"] =
        json!({"uid": 1000, "gid": 100, "additionalGids": [7, 2_000_000]});
    let text = bundle.script("grep ^Groups: /proc/self/status").run().ok();
    let mut groups: Vec<&str> =
        text.split_whitespace().skip(1).filter(|gid| *gid != "100").collect();
    groups.sort_unstable();
    assert_eq!(groups, ["2000000", "7"]);
}

#[test]
fn no_additional_gids_are_inherited_from_the_caller() {
    bundle!(host, bundle);
    bundle.script("grep ^Groups: /proc/self/status").save();
    let text = bundle.sh("exec setpriv --groups 4,5,6 $R run --bundle $B $ID").run().ok();
    assert!(["Groups:", "Groups:\t0"].contains(&text.trim()), "{text}");
}

#[test]
fn umask() {
    bundle!(host, bundle);
    bundle.config["process"]["user"]["umask"] = 0o27.into();
    assert_eq!(bundle.script("umask").run().ok(), "0027");
}

/// The specification says it should be the caller's; runc and crun always use 0022.
#[test]
fn the_default_umask_is_the_callers_or_0022() {
    bundle!(host, bundle);
    bundle.script("umask").save();
    let text = bundle.sh("umask 077; exec $R run --bundle $B $ID").run().ok();
    assert!(["0022", "0077"].contains(&&*text), "{text}");
}

#[test]
fn in_a_user_namespace() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    bundle.user_namespace(200_000);
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 100, "additionalGids": [7]});
    bundle.sleeping();
    let status = bundle.proc("status");
    assert!(status.contains("Uid:\t201000\t201000\t201000\t201000"), "{status}");
    assert!(status.contains("Gid:\t200100\t200100\t200100\t200100"), "{status}");
    assert!(status.contains("Groups:\t200007"), "{status}");
}
