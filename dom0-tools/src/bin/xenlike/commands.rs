//! The implementation of the verbs.

use std::borrow::Cow;
use std::fs;
use std::io::{IsTerminal, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use dom0_tools::build::Progress;
use dom0_tools::config::{self, DomainConfig, Parsed};
use dom0_tools::hyper::machine::{self, Clear};
use dom0_tools::hyper::{DomId, DomainInfo, domain};
use dom0_tools::image::Image;
use dom0_tools::manifest::Manifest;
use dom0_tools::ops::view::{self, HostView, Names, Uuids};
use dom0_tools::ops::{self, Created, Files, UptimeRow, uptime_table};
use dom0_tools::store::path;
use dom0_tools::verbs::{self, Request};

use crate::console::{self, Place};
use crate::control::{own_uptime, rename_in_store};
use crate::known::Known;
use crate::privcmd::Privcmd;
use crate::runtime::{Record, now};
use crate::store::Store;
use crate::waiting::Watch;
use crate::{keeper, libxl};

/// How long xenconsoled may take to create a new domain's terminal.
const CONSOLE: Duration = Duration::from_secs(5);

/// The files of this system. Relative names start at the current folder.
struct Disk;

impl Files for Disk {
    fn read(&self, name: &str) -> Result<Cow<'_, [u8]>, String> {
        fs::read(name)
            .map(Cow::Owned)
            .map_err(|error| format!("{name}: {error}"))
    }
}

/// Prints to stdout. A closed pipe is ignored.
pub fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// The domain that a word names, by name or number.
///
/// # Errors
/// If there is no such domain.
pub fn find(h: &mut Privcmd, word: &str) -> Result<DomId> {
    if let Some(id) = Known::look(h)?.by_name(word) {
        return Ok(id);
    }
    match word.parse().ok().map(DomId) {
        Some(id) if domain::info(h, id).is_ok() => Ok(id),
        _ => bail!("{word}: there is no domain of that name or number"),
    }
}

/// Like [`find`], but refuses the domain in which this program runs.
///
/// # Errors
/// If there is no such domain.
pub fn other(h: &mut Privcmd, word: &str) -> Result<DomId> {
    match find(h, word)? {
        DomId::ZERO => bail!("Domain-0 is this domain"),
        id => Ok(id),
    }
}

/// Runs `list`: shows the domains.
pub fn list(request: &Request) -> Result<()> {
    let mut h = Privcmd::open()?;
    let known = Known::look(&mut h)?;
    let word = request.only_word();
    let only = word.map(|word| find(&mut h, word)).transpose()?;
    if request.has("long") {
        print(&view::json(&ops::long(&mut h, &known, only)?));
        return Ok(());
    }
    let mut rows = view::domains(&mut h, &known)?;
    if let Some(id) = only {
        rows.retain(|row| row.domid == id.0);
    }
    print(&match (request.has("json"), request.has("verbose")) {
        (true, _) => view::json(&rows),
        (false, true) => view::domain_table(&rows, Uuids::Shown),
        (false, false) => view::domain_table(&rows, Uuids::Hidden),
    });
    Ok(())
}

/// The number of seconds for which a domain has run.
fn uptime_of(info: &DomainInfo) -> Option<u64> {
    match info.id {
        DomId::ZERO => own_uptime(),
        _ => Record::of(info)?.age(),
    }
}

/// Runs `dominfo`: shows one domain in detail.
pub fn dominfo(word: &str, json: bool) -> Result<()> {
    let mut h = Privcmd::open()?;
    let id = find(&mut h, word)?;
    let uptime = uptime_of(&domain::info(&mut h, id)?);
    let known = Known::look(&mut h)?;
    let detail = ops::detail(&mut h, &known, id, uptime)?;
    print(&if json {
        view::json(&detail)
    } else {
        ops::detail_text(&detail)
    });
    Ok(())
}

/// Runs `domid`: prints a domain's number.
pub fn domid(word: &str) -> Result<()> {
    print(&format!("{}\n", find(&mut Privcmd::open()?, word)?));
    Ok(())
}

/// Runs `domname`: prints a domain's name.
pub fn domname(word: &str) -> Result<()> {
    let mut h = Privcmd::open()?;
    let id = find(&mut h, word)?;
    print(&format!("{}\n", Known::look(&mut h)?.name(id)));
    Ok(())
}

/// Runs `version`: shows the hypervisor's version.
pub fn version(json: bool) -> Result<()> {
    print(&view::version(&mut Privcmd::open()?, json)?);
    Ok(())
}

/// Runs `info`: shows the machine and the hypervisor.
pub fn info(json: bool) -> Result<()> {
    let host = host()?;
    print(&if json {
        view::json(&host)
    } else {
        view::host_text(&host)
    });
    Ok(())
}

/// Reads the properties of the machine and the hypervisor.
pub fn host() -> Result<HostView> {
    Ok(view::host(&mut Privcmd::open()?)?)
}

/// Runs `vcpu-list`: shows vCPUs and the CPUs on which they run.
pub fn vcpu_list(json: bool, only: Option<&str>) -> Result<()> {
    let mut h = Privcmd::open()?;
    let names = Known::look(&mut h)?;
    let only = only.map(|word| find(&mut h, word)).transpose()?;
    let rows = view::vcpus(&mut h, &names, only)?;
    print(&if json {
        view::json(&rows)
    } else {
        view::vcpu_table(&rows)
    });
    Ok(())
}

/// Runs `vcpu-pin`: sets the CPUs on which a vCPU may run.
pub fn vcpu_pin(word: &str, vcpu: &str, cpus: &str) -> Result<()> {
    let mut h = Privcmd::open()?;
    let id = find(&mut h, word)?;
    ops::pin(&mut h, id, vcpu, cpus).map_err(|cause| anyhow!(cause))
}

/// Runs `top`: shows the domains' CPU time repeatedly.
pub fn top(request: &Request) -> Result<()> {
    let number = |name| request.number(name).map_err(|sentence| anyhow!(sentence));
    let (json, delay) = (request.has("json"), number("delay")?.unwrap_or(2));
    let count = number("count")?.or(request.has("once").then_some(1));
    let mut h = Privcmd::open()?;
    let (mut before, mut then) = (domain::list(&mut h)?, Instant::now());
    let mut left = count;
    while left != Some(0) {
        std::thread::sleep(Duration::from_secs(delay.max(1)));
        let (now, elapsed) = (domain::list(&mut h)?, then.elapsed());
        then = Instant::now();
        let names = Known::look(&mut h)?;
        let rows = view::top(&before, &now, elapsed.as_nanos() as u64, &names);
        if !json && count.is_none() && std::io::stdout().is_terminal() {
            print("\x1b[2J\x1b[H");
        }
        print(&if json {
            view::json_line(&rows)
        } else {
            view::top_table(&rows)
        });
        before = now;
        left = left.map(|left| left - 1);
    }
    Ok(())
}

/// Runs `uptime`: shows for how long domains have run.
pub fn uptime(json: bool, only: Option<&str>) -> Result<()> {
    let mut h = Privcmd::open()?;
    let names = Known::look(&mut h)?;
    let only = only.map(|word| find(&mut h, word)).transpose()?;
    let domains = domain::list(&mut h)?;
    let rows: Vec<UptimeRow> = domains
        .iter()
        .filter(|info| only.is_none_or(|id| id == info.id))
        .map(|info| UptimeRow::new(names.name(info.id), info.id, uptime_of(info)))
        .collect();
    print(&if json {
        view::json(&rows)
    } else {
        uptime_table(&rows)
    });
    Ok(())
}

/// Runs `dmesg`: prints the hypervisor's log.
pub fn dmesg(clear: bool) -> Result<()> {
    let clear = if clear { Clear::Yes } else { Clear::No };
    let log = machine::log(&mut Privcmd::open()?, clear)?;
    print(&String::from_utf8_lossy(&log));
    Ok(())
}

/// Runs `pause`: stops a domain's vCPUs.
pub fn pause(word: &str) -> Result<()> {
    let mut h = Privcmd::open()?;
    let id = other(&mut h, word)?;
    Ok(domain::pause(&mut h, id)?)
}

/// Runs `unpause`: lets a paused domain run.
pub fn unpause(word: &str) -> Result<()> {
    let mut h = Privcmd::open()?;
    let id = other(&mut h, word)?;
    ops::unpause(&mut h, id, word).map_err(|sentence| anyhow!(sentence))
}

/// Runs `destroy`: ends a domain at once.
pub fn destroy(word: &str) -> Result<()> {
    let mut h = Privcmd::open()?;
    let id = other(&mut h, word)?;
    remove(&mut h, id)
}

/// Destroys a domain and removes it from Xenstore.
///
/// # Errors
/// If the hypervisor refuses to destroy it.
pub fn remove(h: &mut Privcmd, id: DomId) -> Result<()> {
    domain::destroy(h, id)?;
    if let Some(mut store) = Store::open() {
        let home = path::home(id);
        // A missing node doesn't need to be removed.
        if let Ok(vm) = store.read(&format!("{home}/vm")) {
            let _ = store.remove(&vm);
        }
        let _ = store.remove(&home);
        let _ = store.remove(&libxl::path(id));
    }
    Ok(())
}

/// Renames an ended domain that is preserved: its old name, a dash, and its number.
///
/// # Errors
/// If the new name can't be stored.
pub fn rename(record: &Record) -> Result<()> {
    let name = format!("{}-{}", record.config.name, record.id);
    if let Some(mut store) = Store::open() {
        rename_in_store(&mut store, record.id, &name)?;
    }
    record.rename(&name)
}

/// Reads a configuration file; settings from the command line override it.
fn configuration(file: &str, settings: &[String]) -> Result<Parsed> {
    let text = fs::read(file).with_context(|| file.to_owned())?;
    let parsed = config::parse(file, &text, settings);
    let warnings = match &parsed {
        Ok(parsed) => &parsed.warnings,
        Err(error) => &error.warnings,
    };
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    Ok(parsed?)
}

/// Prints progress of long operations, if stderr is a terminal.
struct Lines;

impl Progress for Lines {
    fn unpacking(&mut self, file: &str, bytes: u64) {
        if std::io::stderr().is_terminal() {
            eprintln!("reading {file} ({} KiB)", bytes >> 10);
        }
    }
}

/// Runs `create`: starts a domain from a configuration.
pub fn create(request: &Request) -> Result<()> {
    let (file, settings) = verbs::configuration(request).map_err(|sentence| anyhow!(sentence))?;
    let Parsed { config, files, .. } = configuration(file, &settings)?;
    for file in files {
        let found = fs::File::open(&file.name);
        found.map_err(|error| anyhow!("{}: {}: {error}", file.by, file.name))?;
    }
    if request.has("dryrun") {
        print(&ops::dry_run(&config, &Disk)?);
        return Ok(());
    }
    let (attach, wait) = (request.has("console"), request.has("wait"));
    let wish = if request.has("paused") || attach || wait {
        Start::Paused
    } else {
        Start::Running
    };
    let noise: &mut dyn Progress = if request.has("quiet") {
        &mut ()
    } else {
        &mut Lines
    };
    let record = start_telling(&config, wish, noise)?;
    if !attach && !wait {
        return Ok(());
    }
    let end = Watch::of(&record.uuid, record.id)?;
    // The console is attached before the domain runs, so that no output is missed.
    let runs = !request.has("paused");
    let unpause = std::thread::spawn(move || -> Result<()> {
        std::thread::sleep(Duration::from_millis(100));
        if runs {
            domain::unpause(&mut Privcmd::open()?, record.id)?;
        }
        Ok(())
    });
    if attach {
        attach_to(record.id, console::Keys::Taken)?;
    } else {
        attach_to(record.id, console::Keys::Left)?;
    }
    unpause.join().map_err(|_| anyhow!("unpausing failed"))??;
    if attach {
        return Ok(());
    }
    end.verdict(&config.name, None)
}

/// Whether a new domain runs at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The domain runs at once.
    Running,
    /// The domain stays paused until `unpause`.
    Paused,
}

/// Creates a domain without showing progress.
///
/// # Errors
/// A message about the cause; the domain is removed again.
pub fn start(config: &DomainConfig, wish: Start) -> Result<Record> {
    start_telling(config, wish, &mut ())
}

fn start_telling(
    config: &DomainConfig,
    wish: Start,
    progress: &mut dyn Progress,
) -> Result<Record> {
    let mut h = Privcmd::open()?;
    Known::look(&mut h)?.is_free(&config.name)?;
    let mut store = Store::open();
    let mut seed = [0; 8];
    fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let uuid = config
        .uuid
        .unwrap_or(ops::random_uuid(u64::from_le_bytes(seed)));
    let served = if store.is_some() {
        ops::Store::Served
    } else {
        ops::Store::Absent
    };
    let created = ops::create(&mut h, config, &Disk, uuid, DomId::ZERO, served, progress)?;
    let record = Record {
        id: created.id,
        console: created.console,
        console_port: created.console_port,
        uuid,
        served: store.is_some(),
        started: now().unwrap_or_default(),
        config: config.clone(),
    };
    // With a Xenstore, xenconsoled finds the console there; otherwise the domain's keeper serves it.
    let registered = match &mut store {
        Some(store) => register(store, config, &created, &uuid),
        None => Ok(()),
    };
    let kept = registered.and_then(|()| {
        record
            .save()
            .and_then(|()| libxl::remember(&record))
            .and_then(|()| keeper::start(&record))
    });
    let running = kept.and_then(|()| match wish {
        Start::Running => Ok(domain::unpause(&mut h, created.id)?),
        Start::Paused => Ok(()),
    });
    if let Err(error) = running {
        remove(&mut h, created.id)?;
        return Err(error);
    }
    Ok(record)
}

/// Runs `console`: attaches the terminal to a domain's console.
pub fn attach(word: &str) -> Result<()> {
    let mut h = Privcmd::open()?;
    let id = other(&mut h, word)?;
    attach_to(id, console::Keys::Taken)
}

fn attach_to(id: DomId, keys: console::Keys) -> Result<()> {
    let (place, name) = console_of(&mut Privcmd::open()?, id)?;
    console::attach(&place, keys, &mut || {
        let mut h = Privcmd::open().ok()?;
        let infos = domain::list(&mut h).ok()?;
        let records = infos.iter().filter_map(Record::of);
        let mut kept = records.filter(|record| !record.served);
        let next = kept.find(|record| Some(&record.config.name) == name.as_ref())?;
        Some(Place::Keeper(next.socket()))
    })
}

/// Where a domain's console can be opened, and the domain's name if this program knows it.
pub fn console_of(h: &mut Privcmd, id: DomId) -> Result<(Place, Option<String>)> {
    let record = Record::of(&domain::info(h, id)?);
    if let Some(record) = record.filter(|record| !record.served) {
        return Ok((Place::Keeper(record.socket()), Some(record.config.name)));
    }
    let mut store = Store::open().context("nobody keeps this domain's console")?;
    let terminal = format!("{}/console/tty", path::home(id));
    let deadline = Instant::now() + CONSOLE;
    loop {
        match store.read(&terminal) {
            Ok(terminal) if !terminal.is_empty() => {
                return Ok((Place::Terminal(terminal.into()), None));
            }
            _ if Instant::now() > deadline => bail!("no xenconsoled has this domain's console"),
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Registers a domain in Xenstore, with the nodes that xl expects, and tells the daemon about its ring.
fn register(
    store: &mut Store,
    config: &DomainConfig,
    created: &Created,
    uuid: &[u8; 16],
) -> Result<()> {
    for entry in ops::entries(config, created, uuid) {
        store.write(&entry.path, &entry.value)?;
        store.set_permissions(&entry.path, &entry.perms.words().collect::<Vec<_>>())?;
    }
    libxl::register(store, created.id, uuid)?;
    match created.store_port {
        Some(port) => store.introduce(created.id, created.store.0, port.0),
        None => Ok(()),
    }
}

/// Runs `manifest`: writes a boot manifest made of configurations.
pub fn manifest(request: &Request) -> Result<()> {
    let output = request
        .value("output")
        .context("-o FILE is missing: where the manifest goes")?;
    let domains = request
        .words()
        .iter()
        .map(|file| Ok(configuration(file, &[])?.config))
        .collect::<Result<_>>()?;
    let manifest = Manifest { domains };
    fs::write(output, manifest.encode()?).with_context(|| output.to_owned())?;
    for file in manifest.files() {
        print(&format!(
            "{file} must be a boot module: module2 {file} file={file}\n"
        ));
    }
    Ok(())
}

/// Runs `image`: describes a kernel image.
pub fn image(file: &str, json: bool) -> Result<()> {
    let bytes = fs::read(file).with_context(|| file.to_owned())?;
    let image = Image::open(file, &bytes)?;
    let text = ops::image_text(&image, json).map_err(|cause| anyhow!("{file}: {cause}"))?;
    print(&text);
    Ok(())
}
