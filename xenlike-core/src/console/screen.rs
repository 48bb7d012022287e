//! The screen: VGA text, or a linear frame buffer with an 8×16 font. A copy of the characters is kept, because reading
//! a frame buffer is slow. A full screen scrolls by half its rows, because drawing is slow too.
//!
//! Writing only changes the copy. Drawing follows in pieces of as many characters as the caller has time for: a frame
//! buffer takes long, and the console's lock is held meanwhile.

use font8x8::legacy::BASIC_LEGACY;

use crate::arch::mmio::Window;

const MAX_COLUMNS: usize = 160;
const MAX_ROWS: usize = 75;
const GLYPH_WIDTH: usize = 8;
const GLYPH_HEIGHT: usize = 16;
/// The largest scale of the font; enough for 8K screens.
const MAX_SCALE: usize = 6;
/// The text attribute for light grey on black.
const VGA_COLOURS: u16 = 0x0700;
const GREY: u32 = 0xb0;

/// How to draw on a screen.
#[derive(Clone, Copy, Debug)]
pub enum Surface {
    /// A text screen, with two bytes for each character.
    Text,
    /// A frame buffer of this layout.
    Pixels(PixelFormat),
}

/// The layout of a frame buffer.
#[derive(Clone, Copy, Debug)]
pub struct PixelFormat {
    /// The size of a row of pixels in bytes.
    pub pitch: usize,
    /// The size of a pixel in bytes: 2, 3 or 4.
    pub bytes: usize,
    /// The bit position and width of red, green and blue.
    pub channels: [(u8, u8); 3],
}

impl PixelFormat {
    /// The value of a light grey pixel.
    fn foreground(&self) -> u32 {
        let channel = |(at, bits): (u8, u8)| {
            let value = GREY >> 8_u32.saturating_sub(u32::from(bits)).min(31);
            value.checked_shl(u32::from(at)).unwrap_or(0)
        };
        self.channels
            .iter()
            .map(|c| channel(*c))
            .fold(0, |a, b| a | b)
    }
}

/// A screen in use.
pub struct Screen {
    window: Window,
    surface: Surface,
    columns: usize,
    rows: usize,
    /// The number of screen pixels for each pixel of the font, in both directions.
    scale: usize,
    column: usize,
    row: usize,
    /// The characters, some with [`NOT_DRAWN`] added.
    text: [[u8; MAX_COLUMNS]; MAX_ROWS],
    /// The rows in which characters may not be drawn yet: a bit for each.
    behind: u128,
}

/// A flag of a character: the screen may show another one at its place.
const NOT_DRAWN: u8 = 1 << 7;
const _: () = assert!(MAX_ROWS <= u128::BITS as usize);

impl Screen {
    /// Makes a screen of `width` × `height`, in characters for text and in pixels otherwise, and clears it.
    pub fn new(window: Window, surface: Surface, width: usize, height: usize) -> Self {
        // On a large screen the font is scaled up, so that it stays readable and there aren't more characters to draw.
        let scale = (width / (GLYPH_WIDTH * MAX_COLUMNS)).clamp(1, MAX_SCALE);
        let (columns, rows) = match surface {
            Surface::Text => (width, height),
            Surface::Pixels(_) => (
                width / (GLYPH_WIDTH * scale),
                height / (GLYPH_HEIGHT * scale),
            ),
        };
        let mut screen = Self {
            window,
            surface,
            columns: columns.clamp(1, MAX_COLUMNS),
            rows: rows.clamp(1, MAX_ROWS),
            scale,
            column: 0,
            row: 0,
            text: [[0; MAX_COLUMNS]; MAX_ROWS],
            behind: 0,
        };
        screen.clear();
        screen
    }
    /// Clears the screen, whatever was drawn on it.
    pub fn clear(&mut self) {
        (self.row, self.column, self.behind) = (0, 0, 0);
        self.text = [[b' '; MAX_COLUMNS]; MAX_ROWS];
        match self.surface {
            // Blanks need the attribute, or the cursor would be invisible.
            Surface::Text => {
                for at in 0..self.columns * self.rows {
                    self.window.write16(at * 2, VGA_COLOURS | u16::from(b' '));
                }
            }
            Surface::Pixels(_) => self.window.clear(),
        }
    }
    /// Uses another mapping of the same screen.
    pub fn move_to(&mut self, window: Window) {
        self.window = window;
    }
    /// Writes text. Control characters other than newline, return and tab are skipped; escape sequences
    /// of terminals have no effect.
    pub fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => self.new_line(),
                b'\r' => self.column = 0,
                b'\t' => self.column = (self.column / 8 + 1) * 8,
                0x20..=0x7e => {
                    if self.column >= self.columns {
                        self.new_line();
                    }
                    self.put(self.row, self.column, *byte);
                    self.column += 1;
                }
                _ => {}
            }
        }
    }
    fn new_line(&mut self) {
        self.column = 0;
        self.row += 1;
        if self.row >= self.rows {
            let up = self.rows.div_ceil(2);
            for row in 0..self.rows {
                let from = self
                    .text
                    .get(row + up)
                    .filter(|_| row + up < self.rows)
                    .copied();
                let line = from.unwrap_or([b' '; MAX_COLUMNS]);
                for (column, byte) in line.iter().take(self.columns).enumerate() {
                    self.put(row, column, *byte & !NOT_DRAWN);
                }
            }
            self.row -= up;
        }
    }
    fn put(&mut self, row: usize, column: usize, byte: u8) {
        let Some(cell) = self.text.get_mut(row).and_then(|line| line.get_mut(column)) else {
            return;
        };
        if *cell != byte {
            *cell = byte | NOT_DRAWN;
            self.behind |= 1 << row;
        }
    }
    /// Draws up to `most` characters that are not drawn yet; returns whether there may be more.
    pub fn draw(&mut self, most: usize) -> bool {
        let mut left = most;
        while self.behind != 0 {
            let row = self.behind.trailing_zeros() as usize;
            for column in 0..self.columns {
                let Some(cell) = self.text.get_mut(row).and_then(|line| line.get_mut(column))
                else {
                    break;
                };
                if *cell & NOT_DRAWN == 0 {
                    continue;
                }
                if left == 0 {
                    return true;
                }
                left -= 1;
                *cell &= !NOT_DRAWN;
                let byte = *cell;
                self.draw_at(row, column, byte);
            }
            self.behind &= self.behind - 1;
        }
        false
    }
    fn draw_at(&self, row: usize, column: usize, byte: u8) {
        match self.surface {
            Surface::Text => {
                let at = (row * self.columns + column) * 2;
                self.window.write16(at, VGA_COLOURS | u16::from(byte));
            }
            Surface::Pixels(format) => self.draw_pixels(format, row, column, byte),
        }
    }
    fn draw_pixels(&self, format: PixelFormat, row: usize, column: usize, byte: u8) {
        let glyph = BASIC_LEGACY[usize::from(byte) % BASIC_LEGACY.len()];
        let on = format.foreground();
        let (width, height) = (GLYPH_WIDTH * self.scale, GLYPH_HEIGHT * self.scale);
        let lines = glyph.iter().flat_map(|bits| {
            let mut pixels = [0; GLYPH_WIDTH * MAX_SCALE];
            for (x, same) in pixels.chunks_mut(self.scale).take(GLYPH_WIDTH).enumerate() {
                same.fill(if bits >> x & 1 != 0 { on } else { 0 });
            }
            core::iter::repeat_n(pixels, 2 * self.scale)
        });
        for (line, pixels) in lines.enumerate() {
            let start = (row * height + line) * format.pitch + column * width * format.bytes;
            if format.bytes == 4 && start.is_multiple_of(8) {
                let pairs = pixels.chunks_exact(2).take(width / 2);
                let pair = |two: &[u32]| u64::from(two[1]) << 32 | u64::from(two[0]);
                self.window.write_words(start, pairs.map(pair));
                continue;
            }
            for (x, pixel) in pixels.iter().take(width).enumerate() {
                self.pixel(start + x * format.bytes, format.bytes, *pixel);
            }
        }
    }
    fn pixel(&self, at: usize, bytes: usize, pixel: u32) {
        match bytes {
            4 => self.window.write32(at, pixel),
            2 => self.window.write16(at, pixel as u16),
            _ => {
                (0..bytes.min(3)).for_each(|n| self.window.write8(at + n, (pixel >> (8 * n)) as u8))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(unsafe_code, reason = "a buffer in place of a screen")]

    use super::*;
    use crate::kit::Vaddr;
    use proptest::prelude::*;
    use std::{vec, vec::Vec};

    fn lines(screen: &[u16], columns: usize) -> Vec<Vec<u8>> {
        screen
            .chunks(columns)
            .map(|line| line.iter().map(|c| *c as u8).collect())
            .collect()
    }

    #[test]
    fn text_wraps_and_goes_up_by_half() {
        let mut memory = vec![0_u16; 4 * 4];
        // SAFETY: the buffer outlives the screen and isn't accessed otherwise meanwhile.
        let window = unsafe { Window::new(Vaddr(memory.as_mut_ptr() as u64), 32) };
        let mut screen = Screen::new(window, Surface::Text, 4, 4);
        screen.write(b"abcdef\r\nx\r\ny\r\nz");
        while screen.draw(1) {}
        let shown = lines(&memory, 4);
        assert_eq!(shown, [b"x   ", b"y   ", b"z   ", b"    "]);
    }

    proptest! {
        /// However writing and drawing alternate, a piece changes at most as many characters as it may, and finally the
        /// screen shows what it would show if each character had been drawn at once.
        #[test]
        fn drawing_in_pieces_comes_to_the_same(
            steps in prop::collection::vec(("[a-c \n]{0,12}", 0_usize..8), 1..40),
        ) {
            let mut memories = [[0_u16; 6 * 4]; 2];
            let [at_once, in_pieces] = memories.each_mut().map(|memory| {
                // SAFETY: the buffer outlives the screen, and is only read by `shown` meanwhile.
                let window = unsafe { Window::new(Vaddr(memory.as_mut_ptr() as u64), 48) };
                (Screen::new(window, Surface::Text, 6, 4), window)
            });
            let shown = |window: &Window| (0..24).map(|n| window.read16(2 * n)).collect::<Vec<u16>>();
            let (mut at_once, reference) = at_once;
            let (mut in_pieces, window) = in_pieces;
            for (text, piece) in steps {
                for byte in text.as_bytes().chunks(1) {
                    at_once.write(byte);
                    at_once.draw(usize::MAX);
                }
                in_pieces.write(text.as_bytes());
                let before = shown(&window);
                in_pieces.draw(piece);
                let after = shown(&window);
                let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
                prop_assert!(changed <= piece, "{changed}");
            }
            while in_pieces.draw(1) {}
            prop_assert_eq!(shown(&window), shown(&reference));
        }
    }

    #[test]
    fn the_font_grows_with_the_screen() {
        const WIDTH: usize = 2 * GLYPH_WIDTH * MAX_COLUMNS;
        let mut memory = vec![0_u64; WIDTH / 2 * 4 * GLYPH_HEIGHT];
        // SAFETY: the buffer outlives the screen and isn't accessed otherwise meanwhile.
        let window = unsafe { Window::new(Vaddr(memory.as_mut_ptr() as u64), 8 * memory.len()) };
        let format = PixelFormat {
            pitch: 4 * WIDTH,
            bytes: 4,
            channels: [(16, 8), (8, 8), (0, 8)],
        };
        let mut screen = Screen::new(window, Surface::Pixels(format), WIDTH, 4 * GLYPH_HEIGHT);
        assert_eq!((screen.columns, screen.rows), (MAX_COLUMNS, 2));
        screen.write(b"\r\n H");
        assert!(!screen.draw(2));
        // Each pixel of the font takes two screen pixels across; each line of the 8×8 glyph takes four lines.
        let row = |line: usize| {
            let first = ((2 * GLYPH_HEIGHT + line) * WIDTH + 2 * GLYPH_WIDTH) / 2;
            let words = &memory[first..first + GLYPH_WIDTH];
            words.iter().enumerate().fold(0_u8, |bits, (x, word)| {
                assert!([0, 0x00b0_b0b0_00b0_b0b0].contains(word));
                bits | u8::from(*word != 0) << x
            })
        };
        for line in 0..2 * GLYPH_HEIGHT {
            assert_eq!(row(line), BASIC_LEGACY[usize::from(b'H')][line / 4]);
        }
    }

    #[test]
    fn grey_in_every_format() {
        let format = |channels| PixelFormat {
            pitch: 0,
            bytes: 4,
            channels,
        };
        assert_eq!(format([(16, 8), (8, 8), (0, 8)]).foreground(), 0xb0_b0_b0);
        assert_eq!(format([(11, 5), (5, 6), (0, 5)]).foreground(), 0xb596);
    }
}
