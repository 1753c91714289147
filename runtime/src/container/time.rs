//! Times as the specification and engines write them.

use std::time::{Duration, UNIX_EPOCH};

/// `2026-03-01T09:08:07.123456789Z` (RFC 3339), in UTC.
pub fn rfc3339(since_epoch: Duration) -> String {
    // The end of the year 9999, the last one the format allows: beyond it, this would panic.
    let time = UNIX_EPOCH + since_epoch.min(Duration::from_secs(253_402_300_799));
    humantime::format_rfc3339_nanos(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000005Z"),
            (951_782_399, "2000-02-28T23:59:59.000000005Z"),
            (951_782_400, "2000-02-29T00:00:00.000000005Z"),
            (1_709_251_200, "2024-03-01T00:00:00.000000005Z"),
            (4_102_444_800, "2100-01-01T00:00:00.000000005Z"),
        ] {
            assert_eq!(rfc3339(Duration::new(seconds, 5)), text);
        }
        assert_eq!(rfc3339(Duration::MAX), "9999-12-31T23:59:59.000000000Z");
    }
}
