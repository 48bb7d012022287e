//! The counts, and writing them to the output file.

use crate::arguments::Arguments;
use crate::plugin;
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// What happens when an address is executed.
enum Purpose {
    /// Counting begins.
    From,
    /// Counting ends.
    To,
    /// A mark is written.
    Mark(String),
    /// The instruction is counted, while counting is on.
    Count(AtomicU64),
}

/// An address with its purpose.
pub struct Place {
    address: u64,
    purpose: Purpose,
}

pub struct Tally {
    pub arguments: Arguments,
    file: Mutex<File>,
    open: AtomicBool,
    places: Mutex<HashMap<u64, &'static Place>>,
    /// Shares of which an instruction has been executed.
    met: Mutex<Vec<usize>>,
}

pub static TALLY: OnceLock<Tally> = OnceLock::new();

/// Creates the output file.
pub fn start(arguments: Arguments) -> Result<(), String> {
    let file = File::create(&arguments.out).map_err(|error| error.to_string())?;
    TALLY.get_or_init(|| Tally {
        arguments,
        file: Mutex::new(file),
        open: AtomicBool::new(false),
        places: Mutex::default(),
        met: Mutex::default(),
    });
    Ok(())
}

/// Whether all instructions since power-on are counted, which only marks need.
pub fn counts_all() -> bool {
    TALLY.get().is_some_and(|tally| {
        !tally.arguments.marks.is_empty() || !tally.arguments.shares.is_empty()
    })
}

/// Number of shares.
pub fn shares() -> usize {
    TALLY.get().map_or(0, |tally| tally.arguments.shares.len())
}

/// The share of an instruction that is about to be executed for the first time.
pub fn share(address: u64) -> Option<usize> {
    let tally = TALLY.get()?;
    let mut shares = tally.arguments.shares.iter();
    let index = shares.position(|it| (it.from..=it.to).contains(&address))?;
    let mut met = tally.met.lock().unwrap_or_else(PoisonError::into_inner);
    if !met.contains(&index) {
        met.push(index);
        tally.mark(&tally.arguments.shares.get(index)?.name);
    }
    Some(index)
}

/// The place at an address, if it has a purpose.
pub fn place(address: u64) -> Option<&'static Place> {
    let tally = TALLY.get()?;
    let purpose = tally.purpose(address)?;
    let mut places = tally.places.lock().unwrap_or_else(PoisonError::into_inner);
    let place = places
        .entry(address)
        .or_insert_with(|| Box::leak(Box::new(Place { address, purpose })));
    Some(place)
}

impl Tally {
    fn purpose(&self, address: u64) -> Option<Purpose> {
        let arguments = &self.arguments;
        if arguments.from == Some(address) {
            return Some(Purpose::From);
        }
        if arguments.to == Some(address) {
            return Some(Purpose::To);
        }
        let mut marks = arguments.marks.iter();
        if let Some(mark) = marks.find(|mark| mark.address == address) {
            return Some(Purpose::Mark(mark.name.clone()));
        }
        arguments
            .from
            .is_some()
            .then(|| Purpose::Count(AtomicU64::new(0)))
    }

    /// Writes that `name` was reached, and how many instructions were executed before.
    fn mark(&self, name: &str) {
        let mut lines = format!("mark {name} {}\n", plugin::executed());
        for (index, share) in self.arguments.shares.iter().enumerate() {
            let count = plugin::executed_of(index);
            lines.push_str(&format!("share {name} {} {count}\n", share.name));
        }
        self.write(&lines);
    }

    pub fn write(&self, line: &str) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // An error can't be reported here; the reader will miss the line.
        let _ = file.write_all(line.as_bytes());
    }
}

impl Place {
    /// Handles the execution of this address.
    pub fn reached(&self) {
        let Some(tally) = TALLY.get() else {
            return;
        };
        match &self.purpose {
            Purpose::From => tally.open.store(true, Ordering::Relaxed),
            Purpose::To => tally.open.store(false, Ordering::Relaxed),
            Purpose::Mark(name) => tally.mark(name),
            Purpose::Count(count) => {
                if tally.open.load(Ordering::Relaxed) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Writes the counts when QEMU ends.
pub fn end() {
    let Some(tally) = TALLY.get() else {
        return;
    };
    let places = tally.places.lock().unwrap_or_else(PoisonError::into_inner);
    let mut text = String::new();
    for place in places.values() {
        if let Purpose::Count(count) = &place.purpose {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                text.push_str(&format!("count {:#x} {count}\n", place.address));
            }
        }
    }
    tally.write(&text);
}
