//! A second start of this program, for other work. A library cannot ask its caller for a verb in
//! `main`; but libc calls [`begin`] before `main` in every program that the library is part of.

use std::ffi::{CStr, OsStr, OsString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;

use super::raw;

/// `argv[0]` of a second start.
pub const NAME: &CStr = c"garth-again";

/// The type of libc's initialisers: glibc passes them the arguments of `main`.
pub type Start = extern "C" fn(c_int, *const *const c_char, *const *const c_char);

/// Has a second start run `$work`, which gets the words after [`NAME`]; the process exits with the
/// code it returns.
macro_rules! at_program_start {
    ($work:path) => {
        pub(crate) extern "C" fn at_program_start(
            argc: std::ffi::c_int,
            argv: *const *const std::ffi::c_char,
            _: *const *const std::ffi::c_char,
        ) {
            // SAFETY: glibc passes the arguments of `main`.
            unsafe { crate::sys::again::begin(argc, argv, $work) };
        }

        #[used]
        // SAFETY: libc calls the entries of this section once, before `main`, with these arguments.
        #[unsafe(link_section = ".init_array")]
        static AT_PROGRAM_START: crate::sys::again::Start = at_program_start;
    };
}
pub(crate) use at_program_start;

/// Runs `work` if this is a second start; otherwise returns immediately. A program with more rights
/// than its caller accepts no work from it.
///
/// # Safety
/// Where libc is glibc, `argv` holds `argc` C strings that live as long as the program.
pub unsafe fn begin(argc: c_int, argv: *const *const c_char, work: fn(&[OsString]) -> i32) {
    if !cfg!(target_env = "gnu") || argc < 2 {
        return;
    }
    // SAFETY: the caller vouches for `argv`.
    let word = |at: usize| unsafe { CStr::from_ptr(*argv.add(at)) };
    // SAFETY: no memory is passed.
    if word(0) != NAME || unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        return;
    }
    let words = 1..argc as usize;
    let words: Vec<_> = words.map(|at| OsStr::from_bytes(word(at).to_bytes()).to_owned()).collect();
    super::process::begin();
    raw::exit(work(&words));
}

/// Would a second start of this program reach `start`? Not if that is in a shared library that a
/// program loads at run time.
pub fn is_possible(start: Start) -> bool {
    /// The first object is the program itself (dl_iterate_phdr(3)).
    unsafe extern "C" fn first(
        info: *mut libc::dl_phdr_info,
        _: usize,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: libc describes a loaded object, whose headers are in memory; `data` is below.
        unsafe {
            let (info, address) = (&*info, &mut *data.cast::<usize>());
            let headers = std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into());
            let within = headers.iter().any(|header| {
                let begin = (info.dlpi_addr + header.p_vaddr) as usize;
                header.p_type == libc::PT_LOAD
                    && (begin..begin + header.p_memsz as usize).contains(address)
            });
            *address = usize::from(within);
        }
        1
    }
    let mut address = start as usize;
    // SAFETY: `first` is called for one object, with this pointer.
    unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut address).cast()) };
    cfg!(target_env = "gnu") && address == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_the_program_itself_is_come_to() {
        extern "C" fn here(_: c_int, _: *const *const c_char, _: *const *const c_char) {}
        assert!(is_possible(here));
        // SAFETY: it is only compared, never called.
        let heap = unsafe { std::mem::transmute::<*mut u8, Start>(Box::leak(Box::new(1u8))) };
        assert!(!is_possible(heap));
    }
}
