//! Writes cpio archives in the "newc" format (Linux: early-userspace/buffer-format), so that device
//! nodes need no root.

/// An archive under construction.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

/// The kind of an entry, which implies its mode bits as in `stat`, and its content.
pub enum Entry<'a> {
    /// A file, mode 0644.
    File(&'a [u8]),
    /// A directory, mode 0755.
    Directory,
    /// An executable file, mode 0755.
    Program(&'a [u8]),
    /// A symbolic link to a path.
    Link(&'a str),
    /// A character device, mode 0600: major and minor numbers.
    CharDevice(u32, u32),
}

impl Archive {
    /// Adds an entry at `path` (without a leading slash).
    pub fn add(&mut self, path: &str, entry: &Entry<'_>) {
        let (mode, device, content) = match entry {
            Entry::Directory => (0o040_755, (0, 0), &[][..]),
            Entry::File(content) => (0o100_644, (0, 0), *content),
            Entry::Program(content) => (0o100_755, (0, 0), *content),
            Entry::Link(target) => (0o120_777, (0, 0), target.as_bytes()),
            Entry::CharDevice(major, minor) => (0o020_600, (*major, *minor), &[][..]),
        };
        self.write(path, mode, device, content);
    }

    /// Finishes the archive; returns its bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.write("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn write(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("an entry below 4 GiB");
        let name_size = u32::try_from(path.len() + 1).expect("a short path");
        self.bytes.extend_from_slice(b"070701");
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            device.0,
            device.1,
            name_size,
            0,
        ];
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Archive, Entry};

    #[test]
    fn entries_are_aligned_and_end_with_the_trailer() {
        let mut archive = Archive::default();
        archive.add("init", &Entry::Program(b"#!/bin/sh\n"));
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.starts_with(b"070701"));
        // 110 header bytes and "init\0" end at 115, so the content begins at 116.
        assert_eq!(bytes.get(116..126), Some(&b"#!/bin/sh\n"[..]));
        assert!(bytes.windows(11).any(|window| window == b"TRAILER!!!\0"));
    }
}
