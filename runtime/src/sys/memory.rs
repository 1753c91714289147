//! Memory that a process which waits for long does not need meanwhile.

use std::ffi::{c_int, c_void};

/// Gives back what can be had again: free memory of the allocator, and the pages of this program's own code and
/// constants, which the kernel maps anew from its cache when they are used.
pub fn give_back() {
    // SAFETY: no memory is passed. Only free memory of the allocator is returned.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
    // SAFETY: `program` reads what libc passes, and nothing else.
    unsafe { libc::dl_iterate_phdr(Some(program), std::ptr::null_mut()) };
}

/// The first object is the program itself (dl_iterate_phdr(3)).
unsafe extern "C" fn program(info: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    const PAGE: usize = 4096;
    // SAFETY: libc describes a loaded object, whose headers are in memory.
    let (base, headers) = unsafe {
        let info = &*info;
        (info.dlpi_addr, std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()))
    };
    // What is relocated and then protected is in a writable segment, and stays.
    let constant = |header: &&libc::Elf64_Phdr| {
        header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0
    };
    for header in headers.iter().filter(constant) {
        let begin = (base + header.p_vaddr) as usize / PAGE * PAGE;
        let end = (base + header.p_vaddr + header.p_memsz) as usize;
        // SAFETY: a private mapping of a file that was never written to: what is dropped is read from the file again.
        unsafe { libc::madvise(begin as *mut c_void, end - begin, libc::MADV_DONTNEED) };
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_goes_on_without_what_it_gave_back() {
        let of_files = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let before = of_files();
        give_back();
        let after = of_files();
        assert!(after < before, "{before} kB, then {after} kB");
        assert_eq!("words".to_uppercase(), "WORDS");
    }
}
