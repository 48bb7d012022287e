//! The shell's commands that only show something.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::words::Arguments;
use super::{Mode, Platform, Shell};
use crate::hyper::machine::{self, Clear};
use crate::hyper::{DomId, domain};
use crate::ops::{UptimeRow, uptime_table, view};

/// Bytes of a file from which on `cat` refuses.
const MAX_CAT: u64 = 64 << 10;
const SECOND_NS: u64 = 1_000_000_000;

impl<P: Platform> Shell<P> {
    pub(super) fn list(&mut self, mut arguments: Arguments) -> Result<Mode, String> {
        let json = arguments.option(&["--json", "-j"]);
        arguments.check(Self::usage("list"), 0..=1)?;
        let mut rows =
            view::domains(&mut self.platform, &self.guests).map_err(|error| error.to_string())?;
        if let [word] = arguments.plain.as_slice() {
            let id = self.domain(word)?;
            rows.retain(|row| row.domid == id.0);
        }
        self.print(&if json {
            view::json(&rows)
        } else {
            view::domain_table(&rows)
        });
        Ok(Mode::Prompt)
    }

    pub(super) fn info(&mut self, mut arguments: Arguments) -> Result<Mode, String> {
        let json = arguments.option(&["--json", "-j"]);
        arguments.check(Self::usage("info"), 0..=0)?;
        let cpu = self.platform.hardware_virtualisation();
        let host = view::host(&mut self.platform, &cpu).map_err(|error| error.to_string())?;
        self.print(&if json {
            view::json(&host)
        } else {
            view::host_text(&host)
        });
        Ok(Mode::Prompt)
    }

    pub(super) fn vcpu_list(&mut self, mut arguments: Arguments) -> Result<Mode, String> {
        let json = arguments.option(&["--json", "-j"]);
        arguments.check(Self::usage("vcpu-list"), 0..=1)?;
        let only = arguments
            .plain
            .first()
            .map(|word| self.domain(word))
            .transpose()?;
        let rows = view::vcpus(&mut self.platform, &self.guests, only)
            .map_err(|error| error.to_string())?;
        self.print(&if json {
            view::json(&rows)
        } else {
            view::vcpu_table(&rows)
        });
        Ok(Mode::Prompt)
    }

    pub(super) fn top(&mut self, mut arguments: Arguments) -> Result<Mode, String> {
        let json = arguments.option(&["--json", "-j"]);
        let once = arguments.option(&["-1"]) || self.script.is_some() || json;
        let delay_ns = arguments.number("--delay")?.unwrap_or(2).clamp(1, 3600) * SECOND_NS;
        arguments.check(Self::usage("top"), 0..=0)?;
        let before = domain::list(&mut self.platform).map_err(|error| error.to_string())?;
        let then_ns = self.platform.now_ns();
        // The first picture after a short while.
        let next_ns = then_ns + delay_ns.min(SECOND_NS);
        Ok(Mode::Top {
            before,
            then_ns,
            next_ns,
            delay_ns,
            left: once.then_some(1),
            json,
        })
    }

    /// Shows the next picture of `top`.
    pub(super) fn top_again(&mut self) {
        let Mode::Top {
            before,
            then_ns,
            delay_ns,
            left,
            json,
            ..
        } = self.mode.clone()
        else {
            return;
        };
        let now_ns = self.platform.now_ns();
        let infos = match domain::list(&mut self.platform) {
            Ok(infos) => infos,
            Err(error) => return self.finish(Err(error.to_string())),
        };
        let rows = view::top(
            &before,
            &infos,
            now_ns.saturating_sub(then_ns),
            &self.guests,
        );
        let picture = if json {
            view::json_line(&rows)
        } else {
            view::top_table(&rows)
        };
        if left.is_none() {
            self.print("\x1b[2J\x1b[H");
        }
        self.print(&picture);
        let left = left.map(|left| left - 1);
        if left == Some(0) {
            return self.finish(Ok(()));
        }
        self.mode = Mode::Top {
            before: infos,
            then_ns: now_ns,
            next_ns: now_ns + delay_ns,
            delay_ns,
            left,
            json,
        };
    }

    pub(super) fn dmesg(&mut self, mut arguments: Arguments) -> Result<Mode, String> {
        let clear = if arguments.option(&["-c", "--clear"]) {
            Clear::Yes
        } else {
            Clear::No
        };
        arguments.check(Self::usage("dmesg"), 0..=0)?;
        let log = machine::log(&mut self.platform, clear).map_err(|error| error.to_string())?;
        self.print(&String::from_utf8_lossy(&log));
        Ok(Mode::Prompt)
    }

    pub(super) fn uptime(&mut self, mut arguments: Arguments) -> Result<Mode, String> {
        let json = arguments.option(&["--json", "-j"]);
        arguments.check(Self::usage("uptime"), 0..=1)?;
        let word = arguments.plain.first();
        let only = word.map(|word| self.domain(word)).transpose()?;
        let now = self.platform.now_ns();
        let row = |name: &str, id, ns: u64| UptimeRow::new(name.into(), id, Some(ns / SECOND_NS));
        let guests = self.guests.all().iter().map(|guest| {
            let since = now.saturating_sub(guest.started_ns);
            (guest.id, row(&guest.config.name, guest.id, since))
        });
        let own = (DomId::ZERO, row("Domain-0", DomId::ZERO, now));
        let rows: Vec<UptimeRow> = core::iter::once(own)
            .chain(guests)
            .filter(|(id, _)| only.is_none_or(|only| only == *id))
            .map(|(_, row)| row)
            .collect();
        self.print(&if json {
            view::json(&rows)
        } else {
            uptime_table(&rows)
        });
        Ok(Mode::Prompt)
    }

    pub(super) fn version(&mut self, mut arguments: Arguments) -> Result<Mode, String> {
        let json = arguments.option(&["--json", "-j"]);
        arguments.check(Self::usage("version"), 0..=0)?;
        let (major, minor, extra) =
            machine::version(&mut self.platform).map_err(|error| error.to_string())?;
        let (own, abi) = (env!("CARGO_PKG_VERSION"), format!("{major}.{minor}{extra}"));
        self.print(&if json {
            view::json(&serde_json::json!({ "xenlike": own, "xen_abi": abi }))
        } else {
            format!("xenlike {own}, Xen ABI {abi}\n")
        });
        Ok(Mode::Prompt)
    }

    pub(super) fn ls(&mut self, mut arguments: Arguments) -> Result<Mode, String> {
        let json = arguments.option(&["--json", "-j"]);
        arguments.check(Self::usage("ls"), 0..=0)?;
        let mut files = self.platform.files().list();
        files.sort();
        if json {
            self.print(&view::json(&files));
            return Ok(Mode::Prompt);
        }
        let text: String = files
            .iter()
            .map(|(name, bytes)| format!("{bytes:>10}  {name}\n"))
            .collect();
        self.print(&text);
        Ok(Mode::Prompt)
    }

    pub(super) fn cat(&mut self, arguments: Arguments) -> Result<Mode, String> {
        arguments.check(Self::usage("cat"), 1..=1)?;
        let files = self.platform.files();
        let bytes = files.read(arguments.get(0))?;
        if bytes.len() as u64 > MAX_CAT || bytes.contains(&0) {
            return Err(format!("{}: not a short text", arguments.get(0)));
        }
        let mut text = String::from_utf8_lossy(&bytes)
            .replace(|c: char| c.is_control() && c != '\n' && c != '\t', "");
        if !text.ends_with('\n') {
            text.push('\n');
        }
        self.print(&text);
        Ok(Mode::Prompt)
    }

    pub(super) fn history(&mut self, arguments: Arguments) -> Result<Mode, String> {
        arguments.check(Self::usage("history"), 0..=0)?;
        let lines = self.editor.history().iter().enumerate();
        let text: String = lines
            .map(|(number, line)| format!("{:>5}  {line}\n", number + 1))
            .collect();
        self.print(&text);
        Ok(Mode::Prompt)
    }

    pub(super) fn help(&mut self, arguments: Arguments) -> Result<Mode, String> {
        arguments.check(Self::usage("help"), 0..=1)?;
        if let [name] = arguments.plain.as_slice() {
            let entry = Self::VERBS.iter().find(|entry| entry.name == name);
            let entry = entry.ok_or_else(|| format!("{name}: no such command"))?;
            self.print(&format!("usage: {}\n{}\n", entry.usage, entry.about));
            return Ok(Mode::Prompt);
        }
        let mut text = String::new();
        for entry in Self::VERBS {
            let first = entry.about.split(';').next().unwrap_or_default();
            text.push_str(&format!("  {:<10} {first}\n", entry.name));
        }
        text.push_str("`help COMMAND` tells more. Ctrl-] leaves a domain's console.\n");
        self.print(&text);
        Ok(Mode::Prompt)
    }
}
