//! Loop devices (loop(4)): files as block devices.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::Errno;
use super::raw::{RawFd, call};

/// The kernel's `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// The kernel's `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const LOOP_CLR_FD: usize = 0x4c01;
const LOOP_SET_CAPACITY: usize = 0x4c07;
const LOOP_GET_STATUS64: usize = 0x4c05;
const LOOP_CONFIGURE: usize = 0x4c0a;
const LOOP_CTL_GET_FREE: usize = 0x4c82;
/// LO_FLAGS_DIRECT_IO: the page cache is not used twice.
const DIRECT_IO: u32 = 16;

fn no_info() -> LoopInfo {
    LoopInfo {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    }
}

/// The number of a loop device that is free now; others may take it before we do. `control` is
/// /dev/loop-control.
pub fn free(control: BorrowedFd<'_>) -> Result<u32, Errno> {
    call!(libc::SYS_ioctl, control.as_raw_fd(), LOOP_CTL_GET_FREE, 0).map(|number| number as u32)
}

/// Binds `file` to the loop device `device`, whole, with direct I/O where the file system has that
/// (LOOP_CONFIGURE, Linux 5.8). EBUSY: it is bound already.
pub fn bind(device: BorrowedFd<'_>, file: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let mut info = LoopInfo { flags: DIRECT_IO, ..no_info() };
    // For losetup(8), as far as it fits; the kernel shows the whole path in sysfs.
    let known = name.to_bytes().iter().take(info.file_name.len() - 1);
    known.enumerate().for_each(|(at, byte)| info.file_name[at] = *byte);
    let fd = file.as_raw_fd() as u32;
    let config = LoopConfig { fd, block_size: 0, info, reserved: [0; 8] };
    call!(libc::SYS_ioctl, device.as_raw_fd(), LOOP_CONFIGURE, &raw const config).map(drop)
}

/// The file that a loop device is bound to: its device and inode, as in stat(2). `None`: it is not bound.
pub fn bound(device: BorrowedFd<'_>) -> Result<Option<(u64, u64)>, Errno> {
    let mut info = no_info();
    match call!(libc::SYS_ioctl, device.as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) {
        Ok(_) => Ok(Some((info.device, info.inode))),
        Err(Errno(libc::ENXIO)) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// It has the size that its file has now.
pub fn resize(device: BorrowedFd<'_>) -> Result<(), Errno> {
    call!(libc::SYS_ioctl, device.as_raw_fd(), LOOP_SET_CAPACITY, 0).map(drop)
}

/// Unbinds it, as soon as it is no longer open elsewhere.
pub fn unbind(device: &File) -> Result<(), Errno> {
    let fd: RawFd = device.as_raw_fd();
    match call!(libc::SYS_ioctl, fd, LOOP_CLR_FD, 0) {
        Ok(_) | Err(Errno(libc::ENXIO)) => Ok(()),
        Err(errno) => Err(errno),
    }
}
