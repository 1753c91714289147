//! A seccomp profile: parsed, and lowered to a program that the kernel could take.
#![no_main]

use garth::spec::Profile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    if let Ok(profile) = Profile::parse(json, "fuzz") {
        if let Ok(program) = garth::plan::seccomp::compile(&profile) {
            assert!((1..=4096).contains(&program.insns.len()));
        }
    }
});
