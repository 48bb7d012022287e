//! The shell's commands that only show information.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Mode, Platform, Shell};
use crate::hyper::machine::{self, Clear};
use crate::hyper::{DomId, domain};
use crate::image::Image;
use crate::ops::view::{Names, Uuids};
use crate::ops::{self, UptimeRow, uptime_table, view};
use crate::verbs::Request;

/// Size in bytes above which `cat` refuses a file.
const MAX_CAT: u64 = 64 << 10;
const SECOND_NS: u64 = 1_000_000_000;

impl<P: Platform> Shell<P> {
    pub(super) fn list(&mut self, request: &Request) -> Result<(), String> {
        let json = request.has("json");
        let word = request.only_word();
        let only = word.map(|word| self.domain(word)).transpose()?;
        if request.has("long") {
            let long = ops::long(&mut self.platform, &self.guests, only);
            self.print(&view::json(&long.map_err(|error| error.to_string())?));
            return Ok(());
        }
        let mut rows =
            view::domains(&mut self.platform, &self.guests).map_err(|error| error.to_string())?;
        if let Some(id) = only {
            rows.retain(|row| row.domid == id.0);
        }
        self.print(&match (json, request.has("verbose")) {
            (true, _) => view::json(&rows),
            (false, true) => view::domain_table(&rows, Uuids::Shown),
            (false, false) => view::domain_table(&rows, Uuids::Hidden),
        });
        Ok(())
    }

    pub(super) fn info(&mut self, request: &Request) -> Result<(), String> {
        let json = request.has("json");
        let host = view::host(&mut self.platform).map_err(|error| error.to_string())?;
        self.print(&if json {
            view::json(&host)
        } else {
            view::host_text(&host)
        });
        Ok(())
    }

    pub(super) fn vcpu_list(&mut self, request: &Request) -> Result<(), String> {
        let json = request.has("json");
        let word = request.only_word();
        let only = word.map(|word| self.domain(word)).transpose()?;
        let rows = view::vcpus(&mut self.platform, &self.guests, only)
            .map_err(|error| error.to_string())?;
        self.print(&if json {
            view::json(&rows)
        } else {
            view::vcpu_table(&rows)
        });
        Ok(())
    }

    pub(super) fn top(&mut self, request: &Request) -> Result<Mode, String> {
        let json = request.has("json");
        let once = request.has("once") || self.script.is_some();
        let count = request.number("count")?.map(|count| count.max(1));
        let delay_ns = request.number("delay")?.unwrap_or(2).clamp(1, 3600) * SECOND_NS;
        let before = domain::list(&mut self.platform).map_err(|error| error.to_string())?;
        let then_ns = self.platform.now_ns();
        // The first refresh comes after a second at most.
        let next_ns = then_ns + delay_ns.min(SECOND_NS);
        Ok(Mode::Top {
            before,
            then_ns,
            next_ns,
            delay_ns,
            left: count.or(once.then_some(1)),
            json,
        })
    }

    /// Shows the next refresh of `top`.
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
        if left.is_none() && !json {
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

    pub(super) fn dmesg(&mut self, request: &Request) -> Result<(), String> {
        let clear = if request.has("clear") {
            Clear::Yes
        } else {
            Clear::No
        };
        let log = machine::log(&mut self.platform, clear).map_err(|error| error.to_string())?;
        self.print(&String::from_utf8_lossy(&log));
        Ok(())
    }

    pub(super) fn uptime(&mut self, request: &Request) -> Result<(), String> {
        let json = request.has("json");
        let word = request.only_word();
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
        Ok(())
    }

    pub(super) fn version(&mut self, request: &Request) -> Result<(), String> {
        let text = view::version(&mut self.platform, request.has("json"));
        self.print(&text.map_err(|error| error.to_string())?);
        Ok(())
    }

    pub(super) fn ls(&mut self, request: &Request) -> Result<(), String> {
        let json = request.has("json");
        let mut files = self.platform.files().list();
        files.sort();
        if json {
            self.print(&view::json(&files));
            return Ok(());
        }
        let text: String = files
            .iter()
            .map(|(name, bytes)| format!("{bytes:>10}  {name}\n"))
            .collect();
        self.print(&text);
        Ok(())
    }

    pub(super) fn cat(&mut self, request: &Request) -> Result<(), String> {
        let files = self.platform.files();
        let bytes = files.read(request.word(0))?;
        if bytes.len() as u64 > MAX_CAT || bytes.contains(&0) {
            return Err(format!("{}: not a short text", request.word(0)));
        }
        let mut text = String::from_utf8_lossy(&bytes)
            .replace(|c: char| c.is_control() && c != '\n' && c != '\t', "");
        if !text.ends_with('\n') {
            text.push('\n');
        }
        self.print(&text);
        Ok(())
    }

    pub(super) fn history(&mut self) -> Result<(), String> {
        let lines = self.editor.history().iter().enumerate();
        let text: String = lines
            .map(|(number, line)| format!("{:>5}  {line}\n", number + 1))
            .collect();
        self.print(&text);
        Ok(())
    }

    /// For how many nanoseconds a domain has run.
    fn uptime_ns(&self, id: DomId) -> Option<u64> {
        let now = self.platform.now_ns();
        let guest = self.guests.all().iter().find(|guest| guest.id == id);
        match guest {
            Some(guest) => Some(now.saturating_sub(guest.started_ns)),
            None => (id == DomId::ZERO).then_some(now),
        }
    }

    pub(super) fn dominfo(&mut self, request: &Request) -> Result<(), String> {
        let id = self.domain(request.word(0))?;
        let uptime = self.uptime_ns(id).map(|ns| ns / SECOND_NS);
        let detail = ops::detail(&mut self.platform, &self.guests, id, uptime);
        let detail = detail.map_err(|error| error.to_string())?;
        self.print(&if request.has("json") {
            view::json(&detail)
        } else {
            ops::detail_text(&detail)
        });
        Ok(())
    }

    pub(super) fn domid(&mut self, request: &Request) -> Result<(), String> {
        let id = self.domain(request.word(0))?;
        self.print(&format!("{id}\n"));
        Ok(())
    }

    pub(super) fn domname(&mut self, request: &Request) -> Result<(), String> {
        let id = self.domain(request.word(0))?;
        let name = self.guests.name(id);
        self.print(&format!("{name}\n"));
        Ok(())
    }

    pub(super) fn debug_keys(&mut self, request: &Request) -> Result<(), String> {
        let keys = request.word(0).as_bytes();
        machine::debug_keys(&mut self.platform, keys).map_err(|error| error.to_string())
    }

    pub(super) fn image(&mut self, request: &Request) -> Result<(), String> {
        let (files, name) = (self.platform.files(), request.word(0));
        let bytes = files.read(name)?;
        let image = Image::open(name, &bytes).map_err(|error| error.to_string())?;
        let text = ops::image_text(&image, request.has("json"))?;
        self.print(&text);
        Ok(())
    }
}
