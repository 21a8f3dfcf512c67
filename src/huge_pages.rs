//! Puts this program's code and constants on huge pages.
//!
//! A request runs through several hundred 4 KiB pages of the server's code, and a server that was
//! idle for a moment has none of them in the processor's translation cache (TLB). On bare metal
//! each costs a walk through the page tables; where a hypervisor keeps shadow page tables, as in
//! nested virtual machines, each costs a fault of some microseconds, and together they cost more
//! than everything else that the server does for a request. A huge page is 2 MiB, so that a
//! handful hold it all.
//!
//! Linux maps files with small pages as a rule (`CONFIG_READ_ONLY_THP_FOR_FS`). So the content is
//! copied into anonymous memory, which can have huge pages, and that is moved over the original.
//! build.rs aligns the program for it. The price: that memory is this process's own and no longer
//! the page cache's, and profilers cannot tell which file it is from.

use std::{ffi::c_void, fs, io, ops::Range, ptr};

use rustix::mm::{
    Advice, MapFlags, MprotectFlags, MremapFlags, ProtFlags, madvise, mmap_anonymous, mprotect,
    mremap_fixed, munmap,
};

/// Of x86-64, and of aarch64 with 4 KiB pages.
const HUGE: usize = 2 << 20;

/// What the administrator allows: transhuge.rst in Linux's documentation.
const ENABLED: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// A part of this program's file in memory.
#[derive(Debug, PartialEq, Eq)]
struct Segment {
    /// Whole huge pages, which hold nothing else.
    whole: Range<usize>,
    /// What there is to copy: the part of `whole` that is mapped.
    content: Range<usize>,
    executable: bool,
}

/// Moves this program's code and constants to huge pages, and says how many bytes that were: 0
/// where the machine does not allow it.
///
/// To be called while the process has one thread.
///
/// # Errors
/// When memory is short, or a security policy forbids to make memory executable (systemd's
/// `MemoryDenyWriteExecute`, SELinux's `execmem`). The program runs on as it was, or with a part of
/// it moved.
pub fn hold_program() -> io::Result<usize> {
    if !is_allowed(&fs::read_to_string(ENABLED).unwrap_or_default()) {
        return Ok(0);
    }
    let segments = segments(
        &fs::read_to_string("/proc/self/maps")?,
        hold_program as *const () as usize,
    );
    segments.iter().try_fold(0, |bytes, segment| {
        move_to_huge_pages(segment)?;
        Ok(bytes + segment.whole.len())
    })
}

fn is_allowed(enabled: &str) -> bool {
    enabled.contains("[always]") || enabled.contains("[madvise]")
}

/// The segments that nobody writes to of the file that `address` is from, out of proc(5)'s
/// `/proc/pid/maps`.
fn segments(maps: &str, address: usize) -> Vec<Segment> {
    let rows: Vec<_> = maps.lines().filter_map(row).collect();
    let mut segments = Vec::new();
    let Some((.., program)) = rows.iter().find(|(range, ..)| range.contains(&address)) else {
        return segments;
    };
    for (index, (content, permissions, path)) in rows.iter().enumerate() {
        if path != program || !matches!(*permissions, "r--p" | "r-xp") {
            continue;
        }
        // Huge pages that this segment has for itself but does not fill are taken, too.
        let before = index.checked_sub(1).map_or(0, |index| rows[index].0.end);
        let after = rows.get(index + 1).map_or(usize::MAX, |next| next.0.start);
        let (down, up) = (
            content.start / HUGE * HUGE,
            content.end.next_multiple_of(HUGE),
        );
        let start = if down >= before {
            down
        } else {
            content.start.next_multiple_of(HUGE)
        };
        let end = if up <= after {
            up
        } else {
            content.end / HUGE * HUGE
        };
        if start < end {
            segments.push(Segment {
                content: content.start.max(start)..content.end.min(end),
                whole: start..end,
                executable: *permissions == "r-xp",
            });
        }
    }
    segments
}

fn row(line: &str) -> Option<(Range<usize>, &str, &str)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let address = |hex| usize::from_str_radix(hex, 16).ok();
    let permissions = fields.next()?;
    Some((
        address(start)?..address(end)?,
        permissions,
        fields.nth(3).unwrap_or_default(),
    ))
}

fn move_to_huge_pages(segment: &Segment) -> io::Result<()> {
    let Segment {
        whole,
        content,
        executable,
    } = segment;
    let protection = if *executable {
        MprotectFlags::READ | MprotectFlags::EXEC
    } else {
        MprotectFlags::READ
    };
    // With one huge page more than needed there is an aligned place in it.
    let room = whole.len() + HUGE;
    // SAFETY: the kernel chooses the place, so that nothing that exists is replaced.
    let reserved = unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            room,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )?
    };
    let padding = reserved.addr().next_multiple_of(HUGE) - reserved.addr();
    let aligned = reserved.wrapping_byte_add(padding);
    // SAFETY: `aligned` and the bytes up to its end are within what was just mapped, which nobody
    // else knows of; `content` is mapped and readable, and not written to by anyone, since it is
    // of a segment without that right. The move replaces only huge pages that hold nothing but the
    // segment, by the same bytes with the same rights: who runs in it or reads it notices nothing.
    let moved = unsafe {
        madvise(aligned, whole.len(), Advice::LinuxHugepage)
            .and_then(|()| {
                ptr::copy_nonoverlapping(
                    ptr::with_exposed_provenance::<u8>(content.start),
                    aligned.cast::<u8>().byte_add(content.start - whole.start),
                    content.len(),
                );
                mprotect(aligned, whole.len(), protection)
            })
            .and_then(|()| {
                let place = ptr::with_exposed_provenance_mut(whole.start);
                mremap_fixed(
                    aligned,
                    whole.len(),
                    whole.len(),
                    MremapFlags::MAYMOVE,
                    place,
                )
            })
    };
    let rest = aligned.wrapping_byte_add(whole.len());
    // SAFETY: what is unmapped is of the room above, and not the part that was moved away.
    unsafe {
        if moved.is_ok() {
            unmap(reserved, padding)?;
            unmap(rest, HUGE - padding)?;
        } else {
            unmap(reserved, room)?;
        }
    }
    moved?;
    Ok(())
}

/// As munmap(2), which is not asked to unmap nothing: it refuses.
///
/// # Safety
/// Nobody uses what is there.
unsafe fn unmap(start: *mut c_void, length: usize) -> io::Result<()> {
    if length > 0 {
        // SAFETY: the caller's.
        unsafe { munmap(start, length)? };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As lld lays the program out, loaded at 32 MiB.
    const MAPS: &str = "\
02000000-02340000 r--p 00000000 fe:00 5312083                    /usr/bin/sandpool
02540000-03160000 r-xp 00340000 fe:00 5312083                    /usr/bin/sandpool
03360000-033dd000 r--p 00f60000 fe:00 5312083                    /usr/bin/sandpool
033dd000-033de000 rw-p 00fdd000 fe:00 5312083                    /usr/bin/sandpool
033e0000-03401000 rw-p 00000000 00:00 0                          [heap]
7f0000200000-7f0000600000 r-xp 00026000 fe:00 326269             /usr/lib/libc.so.6
";

    #[test]
    fn a_segment_has_the_huge_pages_that_nothing_else_is_in() {
        let constants = Segment {
            whole: 0x200_0000..0x240_0000,
            content: 0x200_0000..0x234_0000,
            executable: false,
        };
        let code = Segment {
            whole: 0x240_0000..0x320_0000,
            content: 0x254_0000..0x316_0000,
            executable: true,
        };
        // The third shares its huge page with what is written to.
        assert_eq!(segments(MAPS, 0x254_1234), [constants, code]);
    }

    #[test]
    fn a_program_that_is_not_aligned_has_those_inside() {
        let maps = "\
10010000-10400000 r--p 00000000 fe:00 7 /usr/bin/sandpool
10400000-109ff000 r-xp 003f0000 fe:00 7 /usr/bin/sandpool
109ff000-10a00000 rw-p 009ef000 fe:00 7 /usr/bin/sandpool
";
        let constants = Segment {
            whole: 0x1000_0000..0x1040_0000,
            content: 0x1001_0000..0x1040_0000,
            executable: false,
        };
        let code = Segment {
            whole: 0x1040_0000..0x1080_0000,
            content: 0x1040_0000..0x1080_0000,
            executable: true,
        };
        assert_eq!(segments(maps, 0x1040_0000), [constants, code]);
    }

    #[test]
    fn a_program_that_is_not_found_stays_where_it_is() {
        assert_eq!(segments(MAPS, 0x100), []);
        assert_eq!(segments("not what proc(5) says", 0x100), []);
    }

    #[test]
    fn the_administrator_decides() {
        assert!(is_allowed("always [madvise] never\n"));
        assert!(is_allowed("[always] madvise never\n"));
        assert!(!is_allowed("always madvise [never]\n"));
        assert!(!is_allowed(""));
    }
}
