//! Which values go into which file, for both generations.

use std::collections::BTreeMap;

use super::super::hierarchy::Version;
use super::super::{v1, v2};
use super::*;

fn resources(json: serde_json::Value) -> Resources {
    serde_json::from_value(json).unwrap()
}

/// `file=value` for each value, in order.
fn said(
    version: Version,
    json: serde_json::Value,
    files: &[(&str, &str)],
) -> std::result::Result<String, String> {
    let files: BTreeMap<&str, &str> = files.iter().copied().collect();
    let look = |file: &str| files.get(file).map(|text| (*text).to_owned());
    let resources = resources(json);
    let mut lines = Vec::new();
    for controller in Controller::ALL {
        let values = match version {
            Version::V1 => v1::settings(controller, &resources, &look),
            Version::V2 => v2::settings(controller, &resources, &look),
        };
        for item in values.map_err(|error| error.to_string())? {
            let mark = if item.optional { "?" } else { "" };
            lines.push(format!("{}={}{mark}", item.file, item.value));
        }
    }
    Ok(lines.join("\n"))
}

fn everything() -> serde_json::Value {
    serde_json::json!({
        "memory": { "limit": 1000, "reservation": 500, "swap": 1500 },
        "cpu": {
            "shares": 1024, "quota": 20000, "period": 50000, "burst": 10, "idle": 1,
            "cpus": "0-1", "mems": "0",
        },
        "pids": { "limit": 7 },
        "blockIO": {
            "weight": 500,
            "weightDevice": [{ "major": 8, "minor": 0, "weight": 10 }],
            "throttleReadBpsDevice": [{ "major": 8, "minor": 0, "rate": 1 }],
            "throttleWriteBpsDevice": [{ "major": 8, "minor": 0, "rate": 2 }],
            "throttleReadIOPSDevice": [{ "major": 8, "minor": 0, "rate": 3 }],
            "throttleWriteIOPSDevice": [{ "major": 8, "minor": 0, "rate": 0 }],
        },
        "hugepageLimits": [{ "pageSize": "2MB", "limit": 4194304 }],
        "rdma": { "mlx5_1": { "hcaHandles": 3, "hcaObjects": 10 } },
    })
}

#[test]
fn every_field_has_its_file_in_v1() {
    let mut json = everything();
    json["memory"]["kernelTCP"] = 11.into();
    json["memory"]["kernel"] = 12.into();
    json["memory"]["swappiness"] = 0.into();
    json["memory"]["disableOOMKiller"] = true.into();
    json["memory"]["useHierarchy"] = true.into();
    json["cpu"]["realtimeRuntime"] = 900.into();
    json["cpu"]["realtimePeriod"] = 1000.into();
    json["blockIO"]["leafWeight"] = 20.into();
    json["blockIO"]["weightDevice"][0]["leafWeight"] = 30.into();
    json["network"] = serde_json::json!({
        "classID": 1048577, "priorities": [{ "name": "eth0", "priority": 5 }],
    });
    assert_eq!(
        said(Version::V1, json, &[("memory.use_hierarchy", "0\n")]).unwrap(),
        "memory.limit_in_bytes=1000
memory.memsw.limit_in_bytes=1500
memory.soft_limit_in_bytes=500
memory.kmem.tcp.limit_in_bytes=11
memory.swappiness=0
memory.oom_control=1
memory.use_hierarchy=1
cpu.shares=1024
cpu.idle=1
cpu.rt_period_us=1000
cpu.rt_runtime_us=900
cpu.cfs_period_us=50000
cpu.cfs_quota_us=20000
cpu.cfs_burst_us=10
cpuset.cpus=0-1
cpuset.mems=0
pids.max=7
blkio.weight=500
blkio.leaf_weight=20
blkio.weight_device=8:0 10
blkio.leaf_weight_device=8:0 30
blkio.throttle.read_bps_device=8:0 1
blkio.throttle.write_bps_device=8:0 2
blkio.throttle.read_iops_device=8:0 3
blkio.throttle.write_iops_device=8:0 0
hugetlb.2MB.limit_in_bytes=4194304
hugetlb.2MB.rsvd.limit_in_bytes=4194304?
net_cls.classid=1048577
net_prio.ifpriomap=eth0 5
rdma.max=mlx5_1 hca_handle=3 hca_object=10"
    );
    let weight = serde_json::json!({ "blockIO": { "weight": 10 } });
    let bfq = [("blkio.bfq.weight", "100\n")];
    assert_eq!(said(Version::V1, weight, &bfq).unwrap(), "blkio.bfq.weight=10");
}

#[test]
fn every_field_has_its_file_in_v2() {
    assert_eq!(
        said(Version::V2, everything(), &[]).unwrap(),
        "memory.swap.max=500
memory.max=1000
memory.low=500
cpu.weight=100
cpu.idle=1
cpu.max=20000 50000
cpu.max.burst=10
cpuset.cpus=0-1
cpuset.mems=0
pids.max=7
io.weight=4950
io.weight=8:0 1
io.max=8:0 rbps=1 wbps=2 riops=3 wiops=max
hugetlb.2MB.max=4194304
hugetlb.2MB.rsvd.max=4194304?
rdma.max=mlx5_1 hca_handle=3 hca_object=10"
    );
    let weight = serde_json::json!({
        "blockIO": { "weight": 500, "weightDevice": [{ "major": 8, "minor": 0, "weight": 10 }] },
    });
    let bfq = [("io.bfq.weight", "100\n")];
    assert_eq!(said(Version::V2, weight, &bfq).unwrap(), "io.bfq.weight=500\nio.bfq.weight=8:0 10");
}

#[test]
fn what_engines_fill_in_says_nothing() {
    let json = serde_json::json!({
        "devices": [],
        "memory": { "limit": 0, "swap": 0, "reservation": 0, "disableOOMKiller": false,
                    "useHierarchy": false, "checkBeforeUpdate": false },
        "cpu": { "shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": "",
                 "realtimeRuntime": 0, "realtimePeriod": 0 },
        "blockIO": { "weight": 0, "leafWeight": 0 },
        "network": { "classID": 0, "priorities": [] },
    });
    for version in [Version::V1, Version::V2] {
        assert_eq!(said(version, json.clone(), &[]).unwrap(), "");
    }
    assert_eq!(asked(LimitSource::Config(&resources(json))), []);
}

#[test]
fn no_limit_is_no_limit_of_swap_either() {
    let json = || serde_json::json!({ "memory": { "limit": -1 } });
    assert_eq!(
        said(Version::V1, json(), &[]).unwrap(),
        "memory.limit_in_bytes=-1\nmemory.memsw.limit_in_bytes=-1?"
    );
    assert_eq!(said(Version::V2, json(), &[]).unwrap(), "memory.swap.max=max?\nmemory.max=max?");
    let unlimited = serde_json::json!({ "pids": { "limit": -1 }, "cpu": { "quota": -1 } });
    assert_eq!(
        said(Version::V2, unlimited.clone(), &[]).unwrap(),
        "cpu.max=max 100000?\npids.max=max?"
    );
    assert_eq!(said(Version::V1, unlimited, &[]).unwrap(), "cpu.cfs_quota_us=-1\npids.max=max?");
}

#[test]
fn swap_in_v2_is_the_sum_without_the_memory() {
    let swap = |json: serde_json::Value, files: &[(&str, &str)]| {
        said(Version::V2, serde_json::json!({ "memory": json }), files)
    };
    let equal = swap(serde_json::json!({ "limit": 1000, "swap": 1000 }), &[]).unwrap();
    assert_eq!(equal, "memory.swap.max=0?\nmemory.max=1000");
    let none = swap(serde_json::json!({ "limit": 1000, "swap": -1 }), &[]).unwrap();
    assert_eq!(none, "memory.swap.max=max?\nmemory.max=1000");
    let update = [("memory.max", "600\n")];
    let later = swap(serde_json::json!({ "swap": 1000 }), &update).unwrap();
    assert_eq!(later, "memory.swap.max=400");
    let words = swap(serde_json::json!({ "limit": 1000, "swap": 999 }), &[]).unwrap_err();
    assert!(words.starts_with("memory.swap 999: less than memory.limit 1000"), "{words}");
    let words = swap(serde_json::json!({ "swap": 999 }), &[("memory.max", "max\n")]).unwrap_err();
    assert!(words.starts_with("memory.swap 999: needs memory.limit"), "{words}");
}

#[test]
fn a_limit_that_would_kill_is_refused_where_that_is_asked() {
    let json = |limit: i64, check: bool| serde_json::json!({ "memory": { "limit": limit, "checkBeforeUpdate": check } });
    let used = [("memory.current", "1000\n")];
    assert!(said(Version::V2, json(1000, false), &used).is_ok());
    assert!(said(Version::V2, json(1001, true), &used).is_ok());
    let words = said(Version::V2, json(1000, true), &used).unwrap_err();
    assert!(words.starts_with("memory.limit 1000: not above current usage 1000"), "{words}");
}

#[test]
fn weight_comes_where_an_idle_cgroup_takes_it() {
    let json = serde_json::json!({ "cpu": { "shares": 512, "idle": 0 } });
    assert_eq!(said(Version::V1, json.clone(), &[]).unwrap(), "cpu.idle=0?\ncpu.shares=512");
    assert_eq!(said(Version::V2, json, &[]).unwrap(), "cpu.idle=0?\ncpu.weight=59");
}

#[test]
fn a_period_without_a_quota_keeps_the_quota() {
    let period = serde_json::json!({ "cpu": { "period": 50000 } });
    let now = [("cpu.max", "20000 100000\n")];
    assert_eq!(said(Version::V2, period, &now).unwrap(), "cpu.max=20000 50000");
    let quota = serde_json::json!({ "cpu": { "quota": 30000 } });
    let now = [("cpu.max", "20000 70000\n")];
    assert_eq!(said(Version::V2, quota, &now).unwrap(), "cpu.max=30000 70000");
}

#[test]
fn what_only_v1_has_is_refused_in_v2() {
    for (json, field) in [
        (serde_json::json!({ "memory": { "swappiness": 60 } }), "memory.swappiness"),
        (serde_json::json!({ "memory": { "disableOOMKiller": true } }), "memory.disableOOMKiller"),
        (serde_json::json!({ "memory": { "kernelTCP": 5 } }), "memory.kernelTCP"),
        (serde_json::json!({ "cpu": { "realtimePeriod": 5 } }), "cpu.realtimeRuntime"),
        (serde_json::json!({ "network": { "classID": 5 } }), "network.classID"),
        (
            serde_json::json!({ "network": { "priorities": [{ "name": "lo", "priority": 1 }] } }),
            "network.priorities",
        ),
        (serde_json::json!({ "blockIO": { "leafWeight": 5 } }), "blockIO.leafWeight"),
    ] {
        let words = said(Version::V2, json, &[]).unwrap_err();
        assert!(
            words.starts_with(field) && words.contains("not available in cgroup v2"),
            "{words}"
        );
    }
    let far = serde_json::json!({ "memory": { "swappiness": 101 } });
    let words = said(Version::V1, far, &[]).unwrap_err();
    assert_eq!(words, "memory.swappiness 101: not between 0 and 100");
    for size in ["", "2MB/..", "2 MB"] {
        let json = serde_json::json!({ "hugepageLimits": [{ "pageSize": size, "limit": 1 }] });
        assert!(said(Version::V1, json, &[]).unwrap_err().contains("not a page size"));
    }
}

#[test]
fn shares_become_weights_by_the_curve_of_all_runtimes() {
    for (shares, weight) in
        [(2, 1), (3, 2), (256, 35), (512, 59), (1024, 100), (2048, 174), (262_144, 10_000)]
    {
        assert_eq!(v2::weight_of_shares(shares), weight, "{shares}");
    }
    let mut last = 0;
    for shares in 0..300_000 {
        let weight = v2::weight_of_shares(shares);
        assert!((1..=10_000).contains(&weight) && weight >= last, "{shares}");
        last = weight;
    }
}
