//! `xenlike`: the toolstack's command for a Linux Dom0, and for making manifests on any system. Its verbs are the
//! toolstack's table of commands (`dom0_tools::verbs`), which the shell of the bare Dom0 shares.

mod asking;
mod bugreport;
mod commands;
mod console;
mod control;
mod evtchn;
mod keeper;
mod known;
mod libxl;
mod privcmd;
mod ring;
mod runtime;
mod store;
mod trace;
mod waiting;

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Result, anyhow};
use commands::print;
use dom0_tools::hyper::DomId;
use dom0_tools::ops::Wish;
use dom0_tools::verbs::{self, Front, Op, Read, Request};

/// The verb by which `create` starts the keeper of a domain; not meant for users.
pub const KEEP: &str = "keep";

fn main() {
    let words = std::env::args_os().skip(1).map(OsString::into_string);
    let words: Result<Vec<String>, OsString> = words.collect();
    let done = words
        .map_err(|word| anyhow!("{}: not UTF-8", word.display()))
        .and_then(|words| run(&words));
    if let Err(error) = done {
        eprintln!("error: {error:#}");
        std::process::exit(1);
    }
}

fn run(words: &[String]) -> Result<()> {
    match words {
        [] => {
            print(&verbs::list(Front::Cli));
            return Err(anyhow!("a command is missing"));
        }
        [word] if matches!(word.as_str(), "-h" | "--help") => {
            print(&verbs::list(Front::Cli));
            return Ok(());
        }
        [word] if matches!(word.as_str(), "-V" | "--version") => {
            print(concat!("xenlike ", env!("CARGO_PKG_VERSION"), "\n"));
            return Ok(());
        }
        [word, id] if word == KEEP => return keeper::keep(DomId(id.parse()?)),
        _ => {}
    }
    match Request::read(words, Front::Cli).map_err(|sentence| anyhow!(sentence))? {
        Read::Nothing => Ok(()),
        Read::Help(text) => {
            print(&text);
            Ok(())
        }
        Read::Run(request) => perform(&request),
    }
}

fn perform(request: &Request) -> Result<()> {
    let json = request.has("json");
    match request.verb.op {
        Op::List => commands::list(request),
        Op::DomInfo => commands::dominfo(request.word(0), json),
        Op::Info => commands::info(json),
        Op::Create => commands::create(request),
        Op::Destroy => commands::destroy(request.word(0)),
        Op::Pause => commands::pause(request.word(0)),
        Op::Unpause => commands::unpause(request.word(0)),
        Op::Shutdown => asking::ask(request, Wish::PowerOff),
        Op::Reboot => asking::ask(request, Wish::Reboot),
        Op::Console => commands::attach(request.word(0)),
        Op::Wait => waiting::wait(request),
        Op::DomId => commands::domid(request.word(0)),
        Op::DomName => commands::domname(request.word(0)),
        Op::Rename => control::rename(request.word(0), request.word(1)),
        Op::MemSet => control::mem_set(request.word(0), request.word(1)),
        Op::MemMax => control::mem_max(request.word(0), request.word(1)),
        Op::VcpuList => commands::vcpu_list(json, request.only_word()),
        Op::VcpuPin => commands::vcpu_pin(request.word(0), request.word(1), request.word(2)),
        Op::VcpuSet => control::vcpu_set(request.word(0), request.word(1)),
        Op::SysRq => control::sysrq(request.word(0), request.word(1)),
        Op::Top => commands::top(request),
        Op::Trace => trace::trace(request),
        Op::Uptime => commands::uptime(json, request.only_word()),
        Op::Dmesg => commands::dmesg(request.has("clear")),
        Op::DebugKeys => control::debug_keys(request.word(0)),
        Op::Version => commands::version(json),
        Op::Image => commands::image(request.word(0), json),
        Op::Manifest => commands::manifest(request),
        Op::BugReport => bugreport::collect(request.value("output").map(Path::new)),
        Op::Sleep => waiting::sleep(request.word(0)),
        // `Request::read` has handled these.
        Op::Help | Op::Ls | Op::Cat | Op::History | Op::PowerOff | Op::Restart => Ok(()),
    }
}
