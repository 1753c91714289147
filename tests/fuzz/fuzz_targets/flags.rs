//! The text of flags: whatever is typed, an answer or an error in one line, never a panic.
#![no_main]

use garth::config::rate::{Change, Rates};
use garth::config::units::{Rate, Size, Span};
use garth::config::{CapabilitySet, Mount, Network, Plugin, Publish, RateGroup, Rlimit, Throttle};
use garth::limit::control::Duty;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let one_line = |error: garth::Error| {
        assert!(text.contains('\n') || !error.to_string().contains('\n'), "{error}");
    };
    match Publish::parse(text) {
        Err(error) => one_line(error),
        // What is printed is read back as the same.
        Ok(ports) => {
            for port in ports {
                assert_eq!(Publish::parse(&port.to_string()).unwrap(), [port]);
            }
        }
    }
    let _ = Mount::volume(text).map_err(one_line);
    let _ = Mount::tmpfs(text).map_err(one_line);
    let _ = Mount::writable(text).map_err(one_line);
    let _ = text.parse::<Network>().map_err(one_line);
    let _ = text.parse::<Rlimit>().map_err(one_line);
    let _ = Throttle::parse(text).map_err(one_line);
    // What is printed is read back as the same.
    if let Ok(rates) = text.parse::<Rates>().map_err(one_line) {
        assert_eq!(rates.to_string().parse::<Rates>().unwrap(), rates);
    }
    let _ = text.parse::<Change>().map_err(one_line);
    if let Ok(group) = text.parse::<RateGroup>().map_err(one_line) {
        assert_eq!(group.to_string().parse::<RateGroup>().unwrap(), group);
    }
    let _ = text.parse::<Duty>().map_err(one_line);
    if let Ok(plugin) = text.parse::<Plugin>().map_err(one_line) {
        assert_eq!(plugin.to_string().parse::<Plugin>().unwrap(), plugin);
    }
    let _ = CapabilitySet::parse(text).map_err(one_line);
    if let Ok(size) = text.parse::<Size>() {
        assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
    }
    if let Ok(rate) = text.parse::<Rate>() {
        assert_eq!(rate.to_string().parse::<Rate>().unwrap(), rate);
    }
    let _ = text.parse::<Span>();
});
