//! Inheritable capabilities empower every program whose file has them as inheritable too.

use serde_json::json;

use crate::status_of;

#[test]
fn cve_2022_29162_exec_cap() {
    bundle!(host, bundle);
    bundle.sleeping();
    let status = bundle.exec("--cap CAP_NET_RAW", "cat /proc/self/status").ok();
    let effective = u64::from_str_radix(status_of(&status, "CapEff"), 16).unwrap();
    assert_ne!(effective & 1 << 13, 0, "{status}");
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(status_of(&status, set), "0000000000000000", "{status}");
    }
}

/// Nor the caller's.
#[test]
fn cve_2022_24769_nothing_is_inheritable_unless_asked_for() {
    bundle!(host, bundle);
    garth_tests::needs!("setpriv");
    let inherit = "exec setpriv --inh-caps=+chown,+net_raw,+kill";
    let show = "cat /proc/self/status";
    bundle.script(show);
    let status = bundle.sh(&format!("{inherit} $R run --bundle $B $ID")).run().ok();
    assert_eq!(status_of(&status, "CapInh"), "0000000000000000", "{status}");
    bundle.sleeping();
    let status = bundle.sh(&format!("{inherit} $R exec $ID {show}")).run().ok();
    assert_eq!(status_of(&status, "CapInh"), "0000000000000000", "{status}");
    assert_eq!(status_of(&status, "CapAmb"), "0000000000000000", "{status}");
}

#[test]
fn cve_2022_24769_no_capabilities_are_none() {
    bundle!(host, bundle);
    bundle.config["process"]["capabilities"] = json!(null);
    let status = bundle.script("cat /proc/self/status").run().ok();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status_of(&status, set), "0000000000000000", "{set}: {status}");
    }
}
