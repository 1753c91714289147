//! A seccomp profile: parsed, and lowered to a program that the kernel could take.
#![no_main]

mod json;

use std::sync::LazyLock;

use garth::config::Profile;
use json::Seeds;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

static SEEDS: LazyLock<Seeds> = LazyLock::new(|| {
    Seeds::new(&[
        include_str!("../../../specs/seccomp/default.json"),
        r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,"flags":["SECCOMP_FILTER_FLAG_LOG"],
            "architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32"],"syscalls":[
            {"names":["read","socketcall"],"action":"SCMP_ACT_ALLOW"},
            {"names":["personality"],"action":"SCMP_ACT_ERRNO","errnoRet":38,"args":[
                {"index":0,"value":131072,"valueTwo":255,"op":"SCMP_CMP_MASKED_EQ"},
                {"index":1,"value":4294967296,"op":"SCMP_CMP_GE"}]},
            {"names":["clone"],"action":"SCMP_ACT_TRACE","args":[
                {"index":5,"value":18446744073709551615,"op":"SCMP_CMP_NE"}]}]}"#,
    ])
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    SEEDS.mutate(data, size, max_size, seed)
});

fuzz_target!(|json: &[u8]| {
    if let Ok(profile) = Profile::parse(json, "fuzz") {
        if let Ok(program) = garth::plan::seccomp::compile(&profile) {
            assert!((1..=4096).contains(&program.insns.len()));
        }
    }
});
