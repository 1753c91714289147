//! What of a request is decoded by the shim: an error at worst, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| containerd_shim_garth::fuzz::request(input));
