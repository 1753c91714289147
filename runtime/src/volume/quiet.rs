//! Keeps udev(7) away from the devices of a volume while a verb works on them.
//!
//! Its rules assemble arrays by themselves: as soon as a member appears, `mdadm --incremental` takes
//! it, and until all are there holds it in an array that does not run, in the way of our own assembly
//! and of the removal of superblocks. But udev leaves a disk alone while another process has its lock
//! (flock(2)), and looks at it again afterwards ("Locking Block Device Access" in systemd's docs).

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::host;
use super::tools::{execute, explained};
use crate::error::{Error, Result};
use crate::journal::is_there;
use crate::sys::process;

/// udev runs if this is there.
const CONTROL: &str = "/run/udev/control";
/// How long its events may take, in seconds: a disk whose server hangs is waited for by its rules.
const SETTLE: u64 = 30;

/// Waits until udev has done what it had to do, and locks these block devices, as long as the
/// descriptors are open. Nothing is done where there is no udev.
///
/// # Errors
/// It takes too long, or a device cannot be locked.
pub fn keep_udev_away(devices: &[PathBuf]) -> Result<Vec<File>> {
    if !is_udev_there()? {
        return Ok(Vec::new());
    }
    let words = ["udevadm", "settle", &format!("--timeout={SETTLE}")].map(String::from);
    let finished = execute(&words)?;
    if !finished.status.success() {
        return Err(explained(&words, &finished)
            .hint("udev is busy for too long; udevadm monitor shows with what"));
    }
    let mut disks: Vec<PathBuf> = Vec::new();
    for device in devices {
        let disk = whole_disk(device)?;
        if !disks.contains(&disk) {
            disks.push(disk);
        }
    }
    disks.iter().filter_map(|disk| lock(disk).transpose()).collect()
}

/// Whether udev runs here.
///
/// # Errors
/// It cannot be looked at.
pub fn is_udev_there() -> Result<bool> {
    is_there(Path::new(CONTROL))
}

/// `None`: its server is gone, and nothing can be read from it, by udev neither.
fn lock(disk: &Path) -> Result<Option<File>> {
    let failed = |doing, error| Error::io(format!("{doing} {}", disk.display()), &error);
    // Without O_NONBLOCK, the kernel would look for a medium.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    let file = match options.open(disk) {
        Ok(file) => file,
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENODEV | libc::EIO)) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(failed("open", error)),
    };
    let end = Instant::now() + Duration::from_secs(SETTLE);
    while !process::try_lock(file.as_fd()).map_err(|errno| failed("lock", errno.into()))? {
        if Instant::now() > end {
            return Err(Error::new(format!("{} is locked by another process", disk.display()))
                .hint("another command works on a partition of it, or udev hangs"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(Some(file))
}

/// The disk of a partition; udev takes its lock for both.
fn whole_disk(device: &Path) -> Result<PathBuf> {
    let dir = Path::new(host::SYS).join("class/block").join(host::kernel_name(device)?);
    if !is_there(&dir.join("partition"))? {
        return Ok(device.to_owned());
    }
    let dir = fs::canonicalize(&dir)
        .map_err(|error| Error::io(format!("resolve {}", dir.display()), &error))?;
    let disk = dir.parent().and_then(Path::file_name).unwrap_or_default();
    Ok(Path::new("/dev").join(disk))
}
