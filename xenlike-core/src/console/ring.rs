//! Byte rings: the log that `dmesg` reads, output that waits to be sent, input that was typed.

/// A ring that keeps the newest `N` bytes.
#[derive(Debug)]
pub struct LogRing<const N: usize> {
    bytes: [u8; N],
    /// The number of bytes that were ever written; the position of the next byte.
    written: u64,
}

impl<const N: usize> LogRing<N> {
    /// Makes an empty ring.
    pub const fn new() -> Self {
        Self {
            bytes: [0; N],
            written: 0,
        }
    }
    /// Appends bytes; the oldest are overwritten if necessary.
    pub fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.bytes[(self.written % N as u64) as usize] = *byte;
            self.written += 1;
        }
    }
    /// Copies from position `from`, or from the oldest byte that is kept, into `out`. Returns the position of the first
    /// byte copied, and the number of bytes.
    pub fn read(&self, from: u64, out: &mut [u8]) -> (u64, usize) {
        let oldest = self.written.saturating_sub(N as u64);
        let start = from.clamp(oldest, self.written);
        let mut count = 0;
        for (slot, at) in out.iter_mut().zip(start..self.written) {
            *slot = self.bytes[(at % N as u64) as usize];
            count += 1;
        }
        (start, count)
    }
    /// The position behind the newest byte.
    pub fn end(&self) -> u64 {
        self.written
    }
}

impl<const N: usize> Default for LogRing<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// A first-in first-out queue of `N` bytes that drops what doesn't fit, and counts it.
#[derive(Debug)]
pub struct Queue<const N: usize> {
    bytes: [u8; N],
    head: usize,
    len: usize,
    lost: u64,
}

impl<const N: usize> Queue<N> {
    /// Makes an empty queue.
    pub const fn new() -> Self {
        Self {
            bytes: [0; N],
            head: 0,
            len: 0,
            lost: 0,
        }
    }
    /// Appends a byte, or counts it as lost.
    pub fn push(&mut self, byte: u8) {
        if self.len == N {
            self.lost += 1;
        } else {
            self.bytes[(self.head + self.len) % N] = byte;
            self.len += 1;
        }
    }
    /// Removes the oldest byte.
    pub fn pop(&mut self) -> Option<u8> {
        (self.len > 0).then(|| {
            let byte = self.bytes[self.head];
            self.head = (self.head + 1) % N;
            self.len -= 1;
            byte
        })
    }
    /// Whether the queue contains no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// The number of bytes that were lost since the last call.
    pub fn take_lost(&mut self) -> u64 {
        core::mem::take(&mut self.lost)
    }
}

impl<const N: usize> Default for Queue<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_bytes_are_kept() {
        let mut ring = LogRing::<4>::new();
        ring.write(b"abcdef");
        let mut out = [0; 8];
        assert_eq!(ring.read(0, &mut out), (2, 4));
        assert_eq!(&out[..4], b"cdef");
        assert_eq!(ring.read(5, &mut out), (5, 1));
        assert_eq!(ring.read(99, &mut out), (6, 0));
    }

    #[test]
    fn a_full_queue_counts_what_it_loses() {
        let mut queue = Queue::<2>::new();
        b"abc".iter().for_each(|b| queue.push(*b));
        assert_eq!(queue.take_lost(), 1);
        assert_eq!(
            (queue.pop(), queue.pop(), queue.pop()),
            (Some(b'a'), Some(b'b'), None)
        );
    }
}
