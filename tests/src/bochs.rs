//! Bochs as the machine: an emulator that is independent of QEMU. It has CPU models with VT-x and with AMD-V, an
//! i440FX board and its own BIOS.

use anyhow::{Context, Result, bail};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

/// A machine that Bochs emulates.
#[derive(Clone, Copy, Debug)]
pub struct Bochs {
    /// CPU model, as listed by `bochs --help cpu`.
    pub model: &'static str,
    /// Number of CPUs.
    pub cpus: u32,
    /// Size of memory in MiB.
    pub memory_mib: u32,
}

/// The file to which Bochs writes errors, in its working folder.
const LOG: &str = "bochs.log";
/// Time limit for connecting its serial port.
const STARTS: Duration = Duration::from_secs(30);

impl Bochs {
    /// The command that boots `iso`, with the first serial port connected to TCP port `serial`. It
    /// must run in `scratch`.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn command(&self, iso: &Path, serial: u16, scratch: &Path) -> Result<Command> {
        fs::write(scratch.join("bochsrc"), self.settings(iso, serial))?;
        // Debian's Bochs includes the debugger, which waits for a command to start.
        fs::write(scratch.join("commands"), "c\nq\n")?;
        let mut bochs = Command::new("bochs");
        bochs.args(["-q", "-f", "bochsrc", "-rc", "commands"]);
        Ok(bochs)
    }

    /// `clock: sync=none` derives time from the instruction count, including the TSC: `ips`
    /// instructions are a second.
    fn settings(&self, iso: &Path, serial: u16) -> String {
        let Self {
            model,
            cpus,
            memory_mib,
        } = self;
        let iso = iso.display();
        format!(
            r#"config_interface: textconfig
display_library: rfb, options="timeout=0"
plugin_ctrl: unmapped=1, biosdev=1, speaker=0, iodebug=1, extfpuirq=1, serial=1, parallel=0, gameport=0
sound: driver=dummy
megs: {memory_mib}
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
vga: extension=none
cpu: model={model}, count={cpus}, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=1
clock: sync=none, time0=1700000000
pci: enabled=1, chipset=i440fx
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path={iso}, status=inserted
boot: cdrom
com1: enabled=1, mode=socket-client, dev=localhost:{serial}
log: {LOG}
panic: action=fatal
error: action=report
info: action=report
debug: action=ignore
"#
        )
    }
}

/// Waits until `bochs` has connected to the port that it was given.
///
/// # Errors
/// If Bochs ends (with its own message) or takes too long.
pub fn connected(port: &TcpListener, bochs: &mut Child, scratch: &Path) -> Result<TcpStream> {
    port.set_nonblocking(true)?;
    let deadline = Instant::now() + STARTS;
    while Instant::now() < deadline {
        if let Ok((serial, _)) = port.accept() {
            serial.set_nonblocking(false)?;
            return Ok(serial);
        }
        if bochs.try_wait()?.is_some() {
            let log = fs::read_to_string(scratch.join(LOG)).context("Bochs wrote no log")?;
            let why = log.lines().rfind(|line| line.contains(">>PANIC<<"));
            bail!("Bochs ended: {}", why.unwrap_or("its log has no reason"));
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!(
        "Bochs did not connect its serial port within {} s",
        STARTS.as_secs()
    )
}
