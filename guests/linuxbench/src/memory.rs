//! Rows about page faults and mappings.

use crate::files::Folder;
use crate::system::{self, Mapping, PAGE, Writable, child};
use crate::window::timed;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

/// Pages of a small mapping, and of a large one.
const SMALL: usize = 16;
const LARGE: usize = 256;

fn pages(operations: u32) -> usize {
    usize::try_from(operations).unwrap_or(usize::MAX)
}

/// The first write to a page of anonymous memory.
pub fn anonymous_faults(operations: u32) -> io::Result<u64> {
    let mapping = Mapping::anonymous(pages(operations))?;
    timed(|| {
        mapping.touch();
        Ok(())
    })
}

/// The first write to a page of a file that is in memory.
pub fn shared_faults(operations: u32) -> io::Result<u64> {
    let folder = Folder::new()?;
    let mut file = File::create_new(folder.path("pages"))?;
    let file_pages = pages(operations);
    file.write_all(&vec![1; file_pages * PAGE])?;
    let file = File::options()
        .read(true)
        .write(true)
        .open(folder.path("pages"))?;
    let mapping = Mapping::shared(file_pages, file.as_fd())?;
    timed(|| {
        mapping.touch();
        Ok(())
    })
}

/// The first write to a page after a fork, which copies it.
pub fn copying_faults(operations: u32) -> io::Result<u64> {
    let mapping = Mapping::anonymous(pages(operations))?;
    mapping.touch();
    let (mut wait, go_on) = io::pipe()?;
    let mut go_on = Some(go_on);
    let process = child(|| {
        go_on = None;
        wait.read(&mut [0]).map(drop)
    })?;
    let ticks = timed(|| {
        mapping.touch();
        Ok(())
    });
    drop(go_on);
    process.wait()?;
    ticks
}

/// A write to a read-only page, which the signal handler makes writable, and making it read-only again.
pub fn faults_to_a_handler(operations: u32) -> io::Result<u64> {
    system::on_fault()?;
    let mapping = Mapping::anonymous(1)?;
    mapping.touch();
    timed(|| {
        for _ in 0..operations {
            mapping.protect(Writable::No)?;
            mapping.write_into_handler();
        }
        Ok(())
    })
}

/// Maps and unmaps 16 pages without touching them.
pub fn map_and_unmap(operations: u32) -> io::Result<u64> {
    timed(|| {
        for _ in 0..operations {
            drop(Mapping::anonymous(SMALL)?);
        }
        Ok(())
    })
}

/// Maps 256 pages, writes to each, and unmaps them.
pub fn map_touch_and_unmap(operations: u32) -> io::Result<u64> {
    timed(|| {
        for _ in 0..operations {
            Mapping::anonymous(LARGE)?.touch();
        }
        Ok(())
    })
}

/// Makes 16 pages read-only and writable again.
pub fn protect(operations: u32) -> io::Result<u64> {
    let mapping = Mapping::anonymous(SMALL)?;
    mapping.touch();
    timed(|| {
        for _ in 0..operations {
            mapping.protect(Writable::No)?;
            mapping.protect(Writable::Yes)?;
        }
        Ok(())
    })
}
