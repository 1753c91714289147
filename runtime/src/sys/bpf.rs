//! bpf(2), as far as device programs need it (Linux 4.15).

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use super::{Errno, raw};

/// An instruction of the kernel's virtual machine (linux/bpf.h, `struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The opcode.
    pub code: u8,
    /// The destination register in the low four bits, the source register in the high ones.
    pub registers: u8,
    /// The jump distance, or a memory offset.
    pub offset: i16,
    /// The immediate value.
    pub number: i32,
}

const PROG_LOAD: usize = 5;
const PROG_ATTACH: usize = 8;
const PROG_DETACH: usize = 9;
const PROG_GET_FD_BY_ID: usize = 13;
const PROG_QUERY: usize = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;

const ALLOW_MULTI: u32 = 2;
const REPLACE: u32 = 4;

/// More than one program is attached to a cgroup only where several programs manage it.
const MOST_PROGRAMS: usize = 64;

/// # Safety
/// Pointers in `attributes` are valid for whatever `command` does with them.
unsafe fn bpf<T>(command: usize, attributes: &mut T) -> Result<usize, Errno> {
    let args = [command, (&raw mut *attributes) as usize, size_of::<T>(), 0, 0, 0];
    // SAFETY: the caller vouches for the pointers; the size is that of the attributes.
    unsafe { raw::syscall(libc::SYS_bpf, args) }
}

/// Loads a program that decides about device access.
pub fn load_device_program(program: &[Instruction]) -> Result<OwnedFd, Errno> {
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
    }
    let mut name = [0; 16];
    name[..13].copy_from_slice(b"garth_devices");
    let mut attributes = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        // No GPL-only helper functions are called.
        license: c"MIT".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name,
    };
    for _ in 0..5 {
        // SAFETY: the program and the license outlive the call, which only reads them.
        match unsafe { bpf(PROG_LOAD, &mut attributes) } {
            // The verifier was interrupted by a signal.
            Err(Errno(libc::EAGAIN)) => {}
            result => return result.map(|fd| raw::own(fd as i32)),
        }
    }
    Err(Errno(libc::EAGAIN))
}

#[repr(C)]
struct Attach {
    cgroup: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

fn change(
    command: usize,
    cgroup: &File,
    program: &OwnedFd,
    flags: u32,
    replaced: u32,
) -> Result<(), Errno> {
    let mut attributes = Attach {
        cgroup: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: CGROUP_DEVICE,
        flags,
        replaced,
    };
    // SAFETY: no pointers.
    unsafe { bpf(command, &mut attributes) }.map(drop)
}

/// Attaches a program alongside those already there; all of them must allow an access.
pub fn attach(cgroup: &File, program: &OwnedFd) -> Result<(), Errno> {
    change(PROG_ATTACH, cgroup, program, ALLOW_MULTI, 0)
}

/// Replaces a program with another, with no gap between them (Linux 5.6).
pub fn replace(cgroup: &File, program: &OwnedFd, old: &OwnedFd) -> Result<(), Errno> {
    change(PROG_ATTACH, cgroup, program, ALLOW_MULTI | REPLACE, old.as_raw_fd() as u32)
}

/// Detaches a program.
pub fn detach(cgroup: &File, program: &OwnedFd) -> Result<(), Errno> {
    change(PROG_DETACH, cgroup, program, 0, 0)
}

/// The ids of the programs attached to this cgroup itself.
pub fn attached(cgroup: &File) -> Result<Vec<u32>, Errno> {
    #[repr(C)]
    struct Query {
        cgroup: u32,
        kind: u32,
        query_flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        padding: u32,
    }
    let mut ids = [0u32; MOST_PROGRAMS];
    let mut attributes = Query {
        cgroup: cgroup.as_raw_fd() as u32,
        kind: CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: MOST_PROGRAMS as u32,
        padding: 0,
    };
    // SAFETY: `ids` has room for `count` numbers and outlives the call.
    unsafe { bpf(PROG_QUERY, &mut attributes)? };
    Ok(ids[..(attributes.count as usize).min(MOST_PROGRAMS)].to_vec())
}

/// Opens a loaded program by its id.
pub fn open_program(id: u32) -> Result<OwnedFd, Errno> {
    let mut attributes = [id, 0, 0];
    // SAFETY: no pointers.
    unsafe { bpf(PROG_GET_FD_BY_ID, &mut attributes) }.map(|fd| raw::own(fd as i32))
}
