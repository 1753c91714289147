//! Annotations of config.json, by which containers ask for what the specification has no words for:
//! what a flag of `garth wrap` is to a sandbox.
//!
//! The specification forbids an error for a key that is not known (config.md, "Annotations"), so
//! one of ours that does not exist is warned of.

/// All of ours begin so.
const PREFIX: &str = "dev.garth.";

/// `dev.garth.plugin.NAME`: as `--plugin NAME`, with its configuration as the value.
pub const PLUGIN: &str = "dev.garth.plugin.";

/// Those that there are; one that ends in a dot stands for all that begin so.
const KNOWN: [&str; 1] = [PLUGIN];

/// It looks like one of ours and is none.
pub fn is_unknown(key: &str) -> bool {
    let known = |known: &&str| match known.ends_with('.') {
        true => key.len() > known.len() && key.starts_with(known),
        false => key == *known,
    };
    key.starts_with(PREFIX) && !KNOWN.iter().any(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_others_are_not_ours_to_know() {
        assert!(!is_unknown("org.opencontainers.image.title"));
        assert!(!is_unknown("dev.garth.plugin.hosts"));
        for key in ["dev.garth.plugin.", "dev.garth.plugins.x", "dev.garth.plugin"] {
            assert!(is_unknown(key), "{key}");
        }
    }
}
