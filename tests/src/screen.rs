//! The machine's screen, read as text through QEMU's monitor.

use crate::monitor::Monitor;
use anyhow::{Context, Result, bail, ensure};
use font8x8::legacy::BASIC_LEGACY;
use serde_json::json;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// The mode in which GRUB left the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A linear frame buffer, on which the core draws with its own font.
    Pixels,
    /// VGA text mode.
    Text,
}

const GLYPH_WIDTH: usize = 8;
const GLYPH_HEIGHT: usize = 16;
const POLL: Duration = Duration::from_millis(200);
const TEXT_AT: u64 = 0xb_8000;
const TEXT_COLUMNS: usize = 80;
const TEXT_ROWS: usize = 25;

impl Monitor {
    /// The present contents of the screen, with a line for each row.
    ///
    /// # Errors
    /// If QEMU doesn't return it.
    pub fn screen(&self, kind: Kind) -> Result<String> {
        let file = self.path("screen");
        let name = file.display().to_string();
        match kind {
            Kind::Pixels => {
                self.execute("screendump", &json!({ "filename": name }))?;
            }
            Kind::Text => {
                let bytes = 2 * TEXT_COLUMNS * TEXT_ROWS;
                let arguments = json!({ "val": TEXT_AT, "size": bytes, "filename": name });
                self.execute("pmemsave", &arguments)?;
            }
        }
        let bytes = fs::read(&file)?;
        match kind {
            Kind::Pixels => read_pixels(&bytes),
            Kind::Text => Ok(read_text(&bytes)),
        }
    }

    /// Waits until the screen shows `text`.
    ///
    /// # Errors
    /// If the time limit passes; the error has the screen's contents.
    pub fn expect(&self, kind: Kind, text: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let shown = self.screen(kind)?;
            if shown.contains(text) {
                return Ok(shown);
            }
            if Instant::now() > deadline {
                bail!("no '{text}' on the screen, but:\n{}", shown.trim_end());
            }
            thread::sleep(POLL);
        }
    }
}

fn printable(byte: u8) -> char {
    match byte {
        0x20..=0x7e => char::from(byte),
        _ => ' ',
    }
}

fn read_text(bytes: &[u8]) -> String {
    let rows = bytes.chunks(2 * TEXT_COLUMNS);
    rows.map(|row| row.iter().step_by(2).map(|c| printable(*c)).collect())
        .collect::<Vec<String>>()
        .join("\n")
}

/// Recognises the core's glyphs in a picture (PPM, binary).
fn read_pixels(ppm: &[u8]) -> Result<String> {
    let mut parts = ppm.splitn(4, |byte| *byte == b'\n');
    let mut line = || parts.next().context("not a PPM picture");
    ensure!(line()? == b"P6", "not a PPM picture");
    let size = String::from_utf8_lossy(line()?).into_owned();
    let (width, height) = size.split_once(' ').context("no size")?;
    let (width, height): (usize, usize) = (width.parse()?, height.parse()?);
    line()?;
    let pixels = line()?;
    let lit = |x: usize, y: usize| {
        pixels
            .get((y * width + x) * 3)
            .is_some_and(|red| *red > 0x40)
    };
    let cell = |column: usize, row: usize| {
        let bits = |line: usize| {
            let (left, y) = (column * GLYPH_WIDTH, row * GLYPH_HEIGHT + line);
            (0..GLYPH_WIDTH).fold(0_u8, |bits, x| bits | u8::from(lit(left + x, y)) << x)
        };
        let glyph: [u8; GLYPH_HEIGHT] = std::array::from_fn(bits);
        glyph_of(&glyph)
    };
    let rows = (0..height / GLYPH_HEIGHT).map(|row| {
        (0..width / GLYPH_WIDTH)
            .map(|column| cell(column, row))
            .collect::<String>()
    });
    Ok(rows.collect::<Vec<_>>().join("\n"))
}

/// The character with this glyph, each of whose lines is drawn twice; `?` if there is none.
fn glyph_of(lines: &[u8; GLYPH_HEIGHT]) -> char {
    (0x20..=0x7e_u8)
        .find(|byte| {
            let glyph = BASIC_LEGACY[usize::from(*byte)];
            (0..GLYPH_HEIGHT).all(|line| lines[line] == glyph[line / 2])
        })
        .map_or('?', char::from)
}
