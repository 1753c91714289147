//! This machine's devices, as a volume needs them: which block device is which of its devices now.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::array::{MdArray, names};
use super::device::VolumeDevice;
use super::mdadm::ArrayUuid;
use super::nbd;
use super::session::{IscsiSession, SessionState};
use crate::error::{Error, Result};
use crate::sys::{Errno, loops};

/// Where sysfs is.
pub const SYS: &str = "/sys";

/// The block device of `device`; `None`: it has none yet, or no longer.
///
/// # Errors
/// It cannot be determined.
pub fn block_device(device: &VolumeDevice) -> Result<Option<PathBuf>> {
    match device {
        VolumeDevice::Iscsi { .. } => {
            Ok(disk_of(&IscsiSession::of(Path::new(SYS), device)?, device))
        }
        VolumeDevice::Nbd { .. } => {
            let name = nbd::device_of(Path::new(SYS), &device.to_string())?;
            Ok(name.map(|name| Path::new("/dev").join(name)))
        }
        VolumeDevice::Block(path) => match fs::metadata(path) {
            Ok(meta) if meta.file_type().is_block_device() => Ok(Some(path.clone())),
            Ok(_) => Err(Error::new(format!("{} is not a block device", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("stat {}", path.display()), &error)),
        },
        VolumeDevice::File(path) => Ok(loop_of(path)?.map(|(path, _)| path)),
    }
}

/// Those of several devices: the sessions are read once.
///
/// # Errors
/// Same as [`block_device`].
pub fn block_devices<'a>(
    devices: impl IntoIterator<Item = &'a VolumeDevice>,
) -> Result<Vec<Option<PathBuf>>> {
    let mut sessions = None;
    let find = |device: &VolumeDevice| {
        if !matches!(device, VolumeDevice::Iscsi { .. }) {
            return block_device(device);
        }
        if sessions.is_none() {
            sessions = Some(IscsiSession::all(Path::new(SYS))?);
        }
        Ok(disk_of(sessions.as_deref().unwrap_or_default(), device))
    };
    devices.into_iter().map(find).collect()
}

/// The disk of an iSCSI unit. Which one is meant without a LUN is not known if there are several.
pub fn disk_of(sessions: &[IscsiSession], device: &VolumeDevice) -> Option<PathBuf> {
    let VolumeDevice::Iscsi { lun: wanted, .. } = device else { return None };
    let session = sessions.iter().find(|session| session.has(device))?;
    let disk = match (wanted, &session.disks[..]) {
        (Some(wanted), disks) => disks.iter().find(|disk| disk.lun == *wanted)?,
        (None, [only]) => only,
        (None, _) => return None,
    };
    Some(Path::new("/dev").join(&disk.device))
}

/// The block device of `device`, and whether what it needs works: the session that an iSCSI unit is on.
///
/// # Errors
/// It cannot be determined.
pub fn working(
    sessions: &[IscsiSession],
    device: &VolumeDevice,
) -> Result<(Option<PathBuf>, bool)> {
    if !matches!(device, VolumeDevice::Iscsi { .. }) {
        return Ok((block_device(device)?, true));
    }
    let session = sessions.iter().find(|session| session.has(device));
    let works = session.is_some_and(|session| session.state == SessionState::LoggedIn);
    Ok((disk_of(sessions, device), works))
}

/// The array with this identity, if it is assembled.
///
/// # Errors
/// It cannot be determined.
pub fn array(uuid: ArrayUuid) -> Result<Option<MdArray>> {
    MdArray::of(Path::new(SYS), uuid)
}

/// The name of a block device in sysfs, `sda`, whatever link leads to it.
///
/// # Errors
/// It cannot be determined.
pub fn kernel_name(device: &Path) -> Result<String> {
    let failed = |error| Error::io(format!("stat {}", device.display()), &error);
    let number = fs::metadata(device).map_err(failed)?.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let link = Path::new(SYS).join(format!("dev/block/{major}:{minor}"));
    let target = fs::read_link(&link)
        .map_err(|error| Error::io(format!("read {}", link.display()), &error))?;
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned());
    name.ok_or_else(|| Error::new(format!("{}: no name in sysfs", device.display())))
}

/// How many bytes it has.
///
/// # Errors
/// It cannot be read.
pub fn size_of(device: &Path) -> Result<u64> {
    let failed = |error| Error::io(format!("read the size of {}", device.display()), &error);
    File::open(device).and_then(|mut file| file.seek(SeekFrom::End(0))).map_err(failed)
}

/// Whether a block device is mounted, a member of an array, or held otherwise.
///
/// # Errors
/// It cannot be determined.
pub fn is_busy(device: &Path) -> Result<bool> {
    // On a block device without O_CREAT: fails if it is in use (open(2)).
    match OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(device) {
        Ok(_) => Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(true),
        Err(error) => Err(Error::io(format!("open {}", device.display()), &error)),
    }
}

/// The loop device that a file is bound to, and its path.
fn loop_of(file: &Path) -> Result<Option<(PathBuf, File)>> {
    let meta = match fs::metadata(file) {
        Ok(meta) if meta.is_file() => meta,
        Ok(_) => return Err(Error::new(format!("{} is not a file", file.display()))),
        Err(error) => return Err(Error::io(format!("open {}", file.display()), &error)),
    };
    let block = Path::new(SYS).join("block");
    for name in names(&block)?.unwrap_or_default() {
        // Only one that is bound has this directory: the others need not be opened.
        if !name.starts_with("loop") || !block.join(&name).join("loop").is_dir() {
            continue;
        }
        let path = Path::new("/dev").join(name);
        let failed = |errno: Errno| Error::os(format!("read {}", path.display()), errno);
        let device = match File::open(&path) {
            Ok(device) => device,
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => continue,
            Err(error) => return Err(failed(error.into())),
        };
        if loops::bound(device.as_fd()).map_err(failed)? == Some((meta.dev(), meta.ino())) {
            return Ok(Some((path, device)));
        }
    }
    Ok(None)
}

/// Binds a file to a loop device, unless it is.
///
/// # Errors
/// It cannot be bound.
pub fn attach(file: &Path) -> Result<()> {
    if loop_of(file)?.is_some() {
        return Ok(());
    }
    let open = |path: &Path| {
        let opened = OpenOptions::new().read(true).write(true).open(path);
        opened.map_err(|error| Error::io(format!("open {}", path.display()), &error))
    };
    let backing = open(file)?;
    let name = std::ffi::CString::new(file.as_os_str().as_bytes())
        .map_err(|_| Error::new("a path has no NUL"))?;
    let control = open(Path::new("/dev/loop-control")).map_err(|error| {
        error.hint("the kernel has no loop devices: modprobe loop, or a host that allows them")
    })?;
    // Others may take the free one first.
    for _ in 0..64 {
        let number = loops::free(control.as_fd())
            .map_err(|errno| Error::os("find a free loop device", errno))?;
        let device = open(&Path::new("/dev").join(format!("loop{number}")))?;
        match loops::bind(device.as_fd(), backing.as_fd(), &name) {
            Ok(()) => return Ok(()),
            Err(Errno(libc::EBUSY)) => {}
            Err(errno) => {
                return Err(Error::os(format!("bind {} to loop{number}", file.display()), errno));
            }
        }
    }
    Err(Error::new(format!("bind {} to a loop device: others take every one", file.display())))
}

/// A device has the size that it has at its server, or that its file has.
///
/// # Errors
/// The kernel does not see it.
pub fn rescan(device: &VolumeDevice) -> Result<()> {
    match device {
        VolumeDevice::File(path) => {
            let Some((path, device)) = loop_of(path)? else { return Ok(()) };
            loops::resize(device.as_fd())
                .map_err(|errno| Error::os(format!("resize {}", path.display()), errno))
        }
        VolumeDevice::Iscsi { .. } => {
            let Some(path) = block_device(device)? else { return Ok(()) };
            let file = Path::new(SYS).join("block").join(kernel_name(&path)?).join("device/rescan");
            fs::write(&file, "1")
                .map_err(|error| Error::io(format!("write 1 to {}", file.display()), &error))
        }
        VolumeDevice::Nbd { .. } | VolumeDevice::Block(_) => Ok(()),
    }
}

/// Releases a file from its loop device, if it has one.
///
/// # Errors
/// It cannot be released.
pub fn detach(file: &Path) -> Result<()> {
    // A file that is gone has no inode to be found by.
    if !crate::journal::is_there(file)? {
        return Ok(());
    }
    let Some((path, device)) = loop_of(file)? else { return Ok(()) };
    loops::unbind(&device).map_err(|errno| Error::os(format!("release {}", path.display()), errno))
}
