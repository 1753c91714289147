//! linux.sysctl.

use serde_json::json;

use crate::refused;

#[test]
fn of_the_network() {
    bundle!(host, bundle);
    bundle.config["linux"]["sysctl"] =
        json!({"net.core.somaxconn": "321", "net.ipv4.ip_forward": "1"});
    let script = "cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/ip_forward";
    assert_eq!(bundle.script(script).run().ok(), "321\n1");
}

#[test]
fn of_ipc_and_message_queues() {
    bundle!(host, bundle);
    bundle.config["linux"]["sysctl"] =
        json!({"kernel.shm_rmid_forced": "1", "kernel.msgmax": "4096", "fs.mqueue.msg_max": "7"});
    let script = "cd /proc/sys; cat kernel/shm_rmid_forced kernel/msgmax fs/mqueue/msg_max";
    assert_eq!(bundle.script(script).run().ok(), "1\n4096\n7");
}

#[test]
fn of_the_host_names() {
    bundle!(host, bundle);
    bundle.config["linux"]["sysctl"] = json!({"kernel.domainname": "garden.example"});
    let script = "cat /proc/sys/kernel/domainname";
    assert_eq!(bundle.script(script).run().ok(), "garden.example");
}

#[test]
fn in_a_user_namespace() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    bundle.user_namespace(200_000);
    bundle.config["linux"]["sysctl"] = json!({"net.core.somaxconn": "321"});
    let script = "cat /proc/sys/net/core/somaxconn";
    assert_eq!(bundle.script(script).run().ok(), "321");
}

#[test]
fn of_the_whole_machine_is_refused() {
    bundle!(host, bundle);
    let before = host.read("/proc/sys/vm/swappiness");
    bundle.config["linux"]["sysctl"] = json!({"vm.swappiness": before.trim()});
    refused(&mut bundle);
}

#[test]
fn of_the_hosts_network_is_refused() {
    bundle!(host, bundle);
    bundle.without_namespace("network");
    bundle.config["linux"]["sysctl"] = json!({"net.core.somaxconn": "321"});
    refused(&mut bundle);
}

#[test]
fn of_the_hosts_ipc_is_refused() {
    bundle!(host, bundle);
    bundle.without_namespace("ipc");
    bundle.config["linux"]["sysctl"] = json!({"kernel.msgmax": "8192"});
    refused(&mut bundle);
}

#[test]
fn that_is_not_there_is_refused() {
    bundle!(host, bundle);
    bundle.config["linux"]["sysctl"] = json!({"net.core.no_such_thing": "1"});
    refused(&mut bundle);
}

#[test]
fn with_a_value_that_the_kernel_rejects_is_refused() {
    bundle!(host, bundle);
    bundle.config["linux"]["sysctl"] = json!({"net.core.somaxconn": "many"});
    refused(&mut bundle);
}

#[test]
fn that_leaves_its_directory_is_refused() {
    bundle!(host, bundle);
    bundle.config["linux"]["sysctl"] = json!({"net/../vm/swappiness": "60"});
    refused(&mut bundle);
}
