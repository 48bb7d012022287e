//! `xenlike`: the toolstack's command for a Linux Dom0, and for making manifests anywhere.

mod asking;
mod bugreport;
mod commands;
mod console;
mod evtchn;
mod keeper;
mod privcmd;
mod ring;
mod runtime;
mod store;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use asking::Ask;
use commands::{Create, ManifestOptions};
use dom0_tools::hyper::DomId;
use dom0_tools::ops::Wish;

/// Manages domains on xenlike and on Xen.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Lists the domains: memory, vCPUs, state, time
    #[command(alias = "ls")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// This domain alone, by name or number
        domain: Option<String>,
    },
    /// Tells about the machine and the hypervisor
    Info {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Starts a domain
    Create(Create),
    /// Attaches to a domain's console; `Ctrl-]` leaves it
    Console {
        /// Name or number
        domain: String,
    },
    /// Keeps a domain's console (started by `create`)
    #[command(hide = true)]
    Keep {
        /// Its number
        domain: u16,
    },
    /// Tells for how long the domains have run
    Uptime {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// This domain alone, by name or number
        domain: Option<String>,
    },
    /// Ends a domain at once
    Destroy {
        /// Name or number
        domain: String,
    },
    /// Keeps a domain from running
    Pause {
        /// Name or number
        domain: String,
    },
    /// Lets a paused domain run
    Unpause {
        /// Name or number
        domain: String,
    },
    /// Asks a domain to power off (needs a Xenstore)
    Shutdown(Ask),
    /// Asks a domain to start again (needs a Xenstore)
    Reboot(Ask),
    /// Lists the vCPUs: where they run, how long they ran
    VcpuList {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// This domain alone, by name or number
        domain: Option<String>,
    },
    /// Lets vCPUs run on some CPUs alone
    VcpuPin {
        /// Name or number of the domain
        domain: String,
        /// The vCPU's number, or all
        vcpu: String,
        /// The CPUs: 0-3,5,^1 or all
        cpus: String,
    },
    /// Shows who uses the CPUs
    Top {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Seconds between two looks
        #[arg(long, default_value_t = 2)]
        delay: u64,
        /// Looks; without a number it goes on until it is interrupted
        #[arg(long)]
        count: Option<u64>,
    },
    /// Prints the hypervisor's log
    Dmesg {
        /// Empty it afterwards
        #[arg(short, long)]
        clear: bool,
    },
    /// Collects what a developer needs to know about this machine: no names, serial numbers or file contents
    Bugreport {
        /// Where it goes, if not to the terminal
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// Makes a manifest of configurations, for automatic start at boot
    Manifest(ManifestOptions),
    /// Tells what a kernel image says about itself
    Image {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The image
        file: String,
    },
}

fn main() {
    let verb = Cli::parse().verb;
    let done = match verb {
        Verb::List { json, domain } => commands::list(json, domain.as_deref()),
        Verb::Info { json } => commands::info(json),
        Verb::Create(create) => commands::create(&create),
        Verb::Console { domain } => commands::attach(&domain),
        Verb::Keep { domain } => keeper::keep(DomId(domain)),
        Verb::Uptime { json, domain } => commands::uptime(json, domain.as_deref()),
        Verb::Destroy { domain } => commands::destroy(&domain),
        Verb::Pause { domain } => commands::pause(&domain),
        Verb::Unpause { domain } => commands::unpause(&domain),
        Verb::Shutdown(asked) => asking::ask(&asked, Wish::PowerOff),
        Verb::Reboot(asked) => asking::ask(&asked, Wish::Reboot),
        Verb::VcpuList { json, domain } => commands::vcpu_list(json, domain.as_deref()),
        Verb::VcpuPin { domain, vcpu, cpus } => commands::vcpu_pin(&domain, &vcpu, &cpus),
        Verb::Top { json, delay, count } => commands::top(json, delay, count),
        Verb::Dmesg { clear } => commands::dmesg(clear),
        Verb::Bugreport { output } => bugreport::collect(output.as_deref()),
        Verb::Manifest(options) => commands::manifest(&options),
        Verb::Image { json, file } => commands::image(&file, json),
    };
    if let Err(error) = done {
        eprintln!("error: {error:#}");
        std::process::exit(1);
    }
}
