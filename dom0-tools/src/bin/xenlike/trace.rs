//! `trace`: records events on all CPUs, and writes a file for Perfetto.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use dom0_tools::hyper::tracing::Tracer;
use dom0_tools::hyper::{DomId, machine};
use dom0_tools::ops::view::Names;
use dom0_tools::trace::{chrome, parse};
use dom0_tools::verbs::Request;

use crate::commands::print;
use crate::known::Known;
use crate::privcmd::Privcmd;

/// Pages of each CPU's trace buffer, if tracing has none yet.
const PAGES: u32 = 64;
/// Pause between two reads of the buffers.
const ROUND: Duration = Duration::from_millis(50);
/// Maximum number of records; later ones are dropped.
const MAX_RECORDS: usize = 8 << 20;
/// Maximum number of bytes that are recorded.
const MAX_BYTES: usize = 512 << 20;

/// Default duration in seconds.
const SECONDS: u64 = 5;

/// Set when the user presses Ctrl-C, which ends the recording normally. Tracing must not stay
/// enabled without a reader.
static ENOUGH: AtomicBool = AtomicBool::new(false);

extern "C" fn enough(_: libc::c_int) {
    ENOUGH.store(true, Ordering::Relaxed);
}

/// Makes Ctrl-C and the usual termination signals end the recording only.
#[expect(unsafe_code, reason = "signal handlers")]
fn end_at_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe {
            libc::signal(
                signal,
                enough as extern "C" fn(libc::c_int) as libc::sighandler_t,
            )
        };
    }
}

/// A trace to be converted: its bytes, its clock's frequency, the names of domains.
type Taken = (Vec<u8>, u32, Box<dyn Names>);

/// Runs `trace`: records or converts a trace.
pub fn trace(request: &Request) -> Result<()> {
    let from = request.value("from");
    let output = request.value("output").unwrap_or("trace.json");
    let mhz = request
        .number("mhz")
        .map_err(|sentence| anyhow!(sentence))?;
    let seconds = match request.only_word() {
        Some(word) => word.parse().context("trace wants a number of seconds")?,
        None => SECONDS,
    };
    let (bytes, khz, names) = match from {
        Some(file) => of_file(file, mhz)?,
        None => of_machine(Duration::from_secs(seconds))?,
    };
    let parsed = parse(&bytes, MAX_RECORDS).map_err(|fault| match from {
        Some(file) => anyhow!("{file}: no trace of xentrace's: {fault}"),
        None => anyhow!("the hypervisor's records: {fault}"),
    })?;
    if parsed.is_cut {
        eprintln!("warning: the end is missing");
    }
    if parsed.is_full {
        eprintln!("warning: there is more, which is left out: {MAX_RECORDS} records are enough");
    }
    let count = parsed.records.len();
    if output == "-" {
        chrome::write(parsed.records, khz, &*names, &mut print);
        return Ok(());
    }
    let file = File::create(output).context(output.to_owned())?;
    let mut file = BufWriter::new(file);
    let mut written = Ok(());
    chrome::write(parsed.records, khz, &*names, &mut |text| {
        if written.is_ok() {
            written = file.write_all(text.as_bytes());
        }
    });
    written
        .and_then(|()| file.flush())
        .context(output.to_owned())?;
    print(&format!(
        "{count} records in {output}: open it at https://ui.perfetto.dev\n"
    ));
    Ok(())
}

/// A trace file doesn't contain the domains' names.
struct NoNames;

impl Names for NoNames {
    fn name(&self, _: DomId) -> String {
        String::new()
    }
}

fn of_file(file: &str, mhz: Option<u64>) -> Result<Taken> {
    let bytes = fs::read(file).context(file.to_owned())?;
    let khz = match (mhz, Privcmd::open()) {
        (Some(mhz), _) => u32::try_from(mhz.saturating_mul(1000)).context("--mhz")?,
        (None, Ok(mut h)) => machine::host(&mut h)?.cpu_khz,
        (None, Err(_)) => {
            bail!("--mhz must tell how fast the time-stamp counter was: this is no Dom0")
        }
    };
    Ok((bytes, khz, Box::new(NoNames)))
}

fn of_machine(time: Duration) -> Result<Taken> {
    let mut h = Privcmd::open()?;
    let khz = machine::host(&mut h)?.cpu_khz;
    end_at_signals();
    let tracer = Tracer::open(&mut h, PAGES)?;
    let read = record(&mut h, &tracer, time);
    tracer.close(&mut h)?;
    let mut bytes = read?;
    bytes.extend(tracer.read(&mut h)?);
    let names = Known::look(&mut h)?;
    Ok((bytes, khz, Box::new(names)))
}

fn record(h: &mut Privcmd, tracer: &Tracer, time: Duration) -> Result<Vec<u8>> {
    let (start, mut bytes) = (Instant::now(), Vec::new());
    let goes_on = || start.elapsed() < time && !ENOUGH.load(Ordering::Relaxed);
    while goes_on() && bytes.len() < MAX_BYTES {
        std::thread::sleep(ROUND.min(time.saturating_sub(start.elapsed())));
        bytes.extend(tracer.read(h)?);
    }
    Ok(bytes)
}
