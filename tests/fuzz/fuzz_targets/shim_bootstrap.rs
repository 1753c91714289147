//! What a daemon says to the shim's start: an answer or an error, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| containerd_shim_garth::fuzz::bootstrap(input));
