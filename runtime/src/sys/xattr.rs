//! Extended attributes (xattr(7)).

use std::path::Path;

use super::Errno;

/// getxattr(2) of a short text, without its terminating NUL.
pub fn text(path: &Path, name: &str) -> Result<String, Errno> {
    let mut value = [0u8; 64];
    let length = rustix::fs::getxattr(path, name, &mut value)?;
    Ok(String::from_utf8_lossy(&value[..length]).trim_matches('\0').to_owned())
}
