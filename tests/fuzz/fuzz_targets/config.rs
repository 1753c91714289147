//! A `config.json` of anybody's: an answer or an error in one line, never a panic, and what is
//! taken is written as it was read.
#![no_main]

use garth::spec::oci::{Config, MountOptions, Process, Resources, parse_list, sysctl_path};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let one_line = |error: garth::Error| {
        let error = error.to_string();
        assert!(!error.chars().any(|character| character.is_control()), "{error:?}");
    };
    match Config::parse(data) {
        Err(error) => one_line(error),
        Ok(config) => {
            let json = serde_json::to_vec(&config).unwrap();
            assert_eq!(Config::parse(&json).unwrap(), config);
            let _ = config.validate().map_err(one_line);
            let _ = config.warnings();
            for mount in &config.mounts {
                let _ = mount.parse_options().map_err(one_line);
            }
        }
    }
    if let Ok(process) = Process::parse(data).map_err(one_line) {
        let _ = process.validate().map_err(one_line);
    }
    if let Ok(resources) = Resources::parse(data).map_err(one_line) {
        let _ = resources.validate().map_err(one_line);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let words: Vec<&str> = text.split(' ').collect();
    if let Ok(options) = MountOptions::parse(&words).map_err(one_line) {
        // The access time is changed as a whole or not at all, and no bit is both set and cleared.
        for (set, clear) in
            [(options.set, options.clear), (options.recursive_set, options.recursive_clear)]
        {
            assert!(clear & 0x70 == 0x70 || (clear | set) & 0x70 == 0, "{options:?}");
            assert_eq!(set & clear & !0x70, 0, "{options:?}");
        }
    }
    let _ = parse_list(text).map_err(one_line);
    if let Ok(path) = sysctl_path(text) {
        assert!(!path.starts_with('/') && !path.split('/').any(|part| part == ".."), "{path:?}");
    }
});
