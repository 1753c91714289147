//! The names that users give to what lasts: sandboxes, services, volumes.

/// What one may consist of; a hint for users.
pub const NAMES: &str =
    "use 1 to 64 letters, digits and _ . + -, starting with a letter, digit or _";

/// Whether it is one. It becomes a file name, and for a sandbox part of a cgroup path and a host
/// name.
pub fn is_name(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"_.+-".contains(&b);
    (1..=64).contains(&text.len()) && text.bytes().all(fine) && !text.starts_with(['.', '-', '+'])
}
