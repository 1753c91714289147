//! Walking the cgroups that a sandbox has created in its own, where it may. It chooses their names
//! and depth: a name need not be UTF-8, and a path can be longer than the kernel accepts
//! (PATH_MAX). So each is reached from its parent, with one descriptor open at a time.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// How many are visited: a process inside may keep creating more.
const MOST: usize = 1 << 18;

/// Calls `down` with each cgroup below `dir`, from the outside in; it returns whether those inside
/// are visited, after which `up` is called. The paths are valid only during the call.
///
/// # Errors
/// Those of the two, and EBUSY if there are too many.
pub fn walk(
    dir: &Path,
    down: &mut dyn FnMut(&Path) -> io::Result<bool>,
    up: &mut dyn FnMut(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let mut here = File::open(dir)?;
    let mut names: Vec<OsString> = Vec::new();
    let mut levels = vec![inside(&path(&here))?];
    let mut met = 0;
    while let Some(level) = levels.last_mut() {
        let at = path(&here);
        if let Some(name) = level.pop() {
            met += 1;
            if met > MOST {
                return Err(io::Error::from_raw_os_error(libc::EBUSY));
            }
            let below = at.join(&name);
            if !down(&below)? {
                continue;
            }
            match File::open(&below) {
                Ok(file) => here = file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            levels.push(inside(&path(&here))?);
            names.push(name);
        } else {
            levels.pop();
            let Some(name) = names.pop() else { break };
            here = File::open(at.join(".."))?;
            up(&path(&here).join(name))?;
        }
    }
    Ok(())
}

/// A path to an open directory, at any depth.
fn path(dir: &File) -> PathBuf {
    format!("/proc/self/fd/{}", dir.as_raw_fd()).into()
}

/// The names of the directories in `dir`; none if it does not exist.
///
/// # Errors
/// It cannot be read.
pub fn inside(dir: &Path) -> io::Result<Vec<OsString>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn neither_depth_nor_names_hide_a_directory() {
        let top = std::env::temp_dir().join(format!("garth-walk-{}", std::process::id()));
        fs::create_dir(&top).unwrap();
        let mut here = File::open(&top).unwrap();
        let strange = OsString::from_vec(vec![0xff; 250]);
        for _ in 0..40 {
            let below = path(&here).join(&strange);
            fs::create_dir(&below).unwrap();
            here = File::open(below).unwrap();
        }
        let mut seen = 0;
        let mut count = |_: &Path| {
            seen += 1;
            Ok(true)
        };
        walk(&top, &mut count, &mut |below| fs::remove_dir(below)).unwrap();
        assert_eq!(seen, 40);
        fs::remove_dir(&top).unwrap();
    }
}
