//! Extended attributes (xattr(7)).

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Errno;

/// getxattr(2) of a short text, without the zero at its end.
pub fn text(path: &Path, name: &str) -> Result<String, Errno> {
    let c = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno(libc::EINVAL));
    let (path, name) = (c(path.as_os_str().as_bytes())?, c(name.as_bytes())?);
    let mut value = [0u8; 64];
    // SAFETY: two C strings and a live buffer of the length given.
    let length = unsafe {
        libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
    };
    match usize::try_from(length) {
        Ok(length) => Ok(String::from_utf8_lossy(&value[..length]).trim_matches('\0').to_owned()),
        Err(_) => Err(std::io::Error::last_os_error().into()),
    }
}
