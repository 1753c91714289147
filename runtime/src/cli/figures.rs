//! Quantities in tables, with three digits that matter.

/// Bytes, in units of 1024.
pub(super) fn binary(bytes: f64) -> String {
    scaled(bytes, 1024.0, &["B", "K", "M", "G", "T", "P"])
}

/// Bits a second, in units of 1000.
pub(super) fn bits(bits: f64) -> String {
    scaled(bits, 1000.0, &[" bit/s", " kbit/s", " Mbit/s", " Gbit/s", " Tbit/s"])
}

/// A part, in percent; 1 is 100%.
pub(super) fn part(part: f64) -> String {
    let percent = part * 100.0;
    match percent {
        0.0 => "0%".to_owned(),
        _ if percent < 9.95 => format!("{percent:.1}%"),
        _ => format!("{percent:.0}%"),
    }
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let (mut value, mut at) = (value, 0);
    // What would be rounded up to a full step gets the next unit.
    while value >= step - 0.5 && at + 1 < units.len() {
        value /= step;
        at += 1;
    }
    match at > 0 && value < 9.95 {
        true => format!("{value:.1}{}", units[at]),
        false => format!("{value:.0}{}", units[at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_digits_that_matter() {
        assert_eq!([0.0, 999.0, 1024.0, 10_000.0].map(binary), ["0B", "999B", "1.0K", "9.8K"]);
        assert_eq!(
            [1e6, 12_345_678.0, 999.6e6].map(bits),
            ["1.0 Mbit/s", "12 Mbit/s", "1.0 Gbit/s"]
        );
        assert_eq!([0.0, 0.004, 0.5, 2.0].map(part), ["0%", "0.4%", "50%", "200%"]);
    }
}
