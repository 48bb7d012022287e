//! `trace`: a short trace on the console, for a machine without a place for files.

use alloc::format;
use alloc::string::{String, ToString};

use super::{Mode, Platform, Shell};
use crate::hyper::CallError;
use crate::hyper::machine;
use crate::hyper::tracing::Tracer;
use crate::trace::{Parsed, chrome, parse};
use crate::verbs::Request;

const SECOND_NS: u64 = 1_000_000_000;
/// Pages of each CPU's buffer: about as many records as are useful on a console.
const PAGES: u32 = 16;
/// Maximum number of records that are printed.
const MAX_RECORDS: usize = 20_000;

impl<P: Platform> Shell<P> {
    pub(super) fn trace(&mut self, request: &Request) -> Result<Mode, String> {
        for option in ["output", "from"] {
            if request.has(option) {
                return Err(format!(
                    "--{option}: the bare Dom0 has no place for such a file; it prints a trace"
                ));
            }
        }
        let seconds = match request.only_word() {
            Some(word) => word
                .parse()
                .map_err(|_| "trace wants a number of seconds".to_string())?,
            None => 1_u64,
        };
        let tracer = Tracer::open(&mut self.platform, PAGES).map_err(|error| error.to_string())?;
        let length_ns = seconds.saturating_mul(SECOND_NS);
        Ok(Mode::Tracing {
            tracer,
            until_ns: self.platform.now_ns().saturating_add(length_ns),
        })
    }

    /// Prints the trace when the time is up. Records after a buffer was full are lost, and their number is recorded.
    pub(super) fn print_trace(&mut self, tracer: &Tracer) {
        match self.collect(tracer) {
            Ok((parsed, khz)) => {
                self.print("[trace: save the lines between this and the next bracket as trace.json, for https://ui.perfetto.dev]\n");
                let count = parsed.records.len();
                let mut text = String::new();
                chrome::write(parsed.records, khz, &self.guests, &mut |piece| {
                    text.push_str(piece)
                });
                self.print(&text);
                let more = if parsed.is_full {
                    ", and more that is left out"
                } else {
                    ""
                };
                self.print(&format!("[trace: {count} records{more}]\n"));
                self.finish(Ok(()));
            }
            Err(cause) => self.finish(Err(cause)),
        }
    }

    fn collect(&mut self, tracer: &Tracer) -> Result<(Parsed, u32), String> {
        let words = |error: CallError| error.to_string();
        tracer.close(&mut self.platform).map_err(words)?;
        let bytes = tracer.read(&mut self.platform).map_err(words)?;
        let khz = machine::host(&mut self.platform).map_err(words)?.cpu_khz;
        let parsed = parse(&bytes, MAX_RECORDS).map_err(|fault| fault.to_string())?;
        Ok((parsed, khz))
    }
}
