//! Verbs that change a running domain.

use std::fs;

use anyhow::{Context, Result, anyhow, bail};
use dom0_tools::hyper::{DomId, domain, machine};
use dom0_tools::ops::{self, Nodes};
use dom0_tools::store::path;

use crate::commands::{find, other};
use crate::known::Known;
use crate::privcmd::Privcmd;
use crate::runtime::Record;
use crate::store::Store;

fn sentence(sentence: String) -> anyhow::Error {
    anyhow!(sentence)
}

impl Nodes for Store {
    fn read(&mut self, path: &str) -> Option<String> {
        Store::read(self, path).ok()
    }

    fn write(&mut self, path: &str, value: &str) -> Result<(), String> {
        Store::write(self, path, value).map_err(|error| error.to_string())
    }
}

/// Opens the Xenstore through which a domain's kernel is asked.
fn asked_store(verb: &str) -> Result<Store> {
    let without = || format!("there is no Xenstore, by which {verb} asks a domain's kernel");
    Store::open().with_context(without)
}

/// Runs `mem-set`: asks a domain to use a given amount of memory.
pub fn mem_set(word: &str, amount: &str) -> Result<()> {
    let mut h = Privcmd::open()?;
    let id = find(&mut h, word)?;
    let mut store = asked_store("mem-set")?;
    ops::mem_set(&mut h, &mut store, id, word, amount).map_err(sentence)
}

/// Runs `mem-max`: sets a domain's maximum memory.
pub fn mem_max(word: &str, amount: &str) -> Result<()> {
    let mut h = Privcmd::open()?;
    let id = find(&mut h, word)?;
    ops::mem_max(&mut h, id, amount).map_err(sentence)
}

/// Runs `vcpu-set`: asks a domain to use a given number of vCPUs.
pub fn vcpu_set(word: &str, count: &str) -> Result<()> {
    let mut h = Privcmd::open()?;
    let id = find(&mut h, word)?;
    let mut store = asked_store("vcpu-set")?;
    ops::vcpu_set(&mut h, &mut store, id, word, count).map_err(sentence)
}

/// Runs `sysrq`: sends a domain's kernel a SysRq letter.
pub fn sysrq(word: &str, letter: &str) -> Result<()> {
    let mut h = Privcmd::open()?;
    match find(&mut h, word)? {
        DomId::ZERO => bail!("Domain-0 is this domain: echo {letter} > /proc/sysrq-trigger"),
        id => ops::sysrq(&mut asked_store("sysrq")?, id, word, letter).map_err(sentence),
    }
}

/// Runs `debug-keys`: presses debug keys of the hypervisor.
pub fn debug_keys(keys: &str) -> Result<()> {
    Ok(machine::debug_keys(&mut Privcmd::open()?, keys.as_bytes())?)
}

/// Runs `rename`: gives a domain another name.
pub fn rename(word: &str, name: &str) -> Result<()> {
    ops::check_name(name).map_err(sentence)?;
    let mut h = Privcmd::open()?;
    let id = other(&mut h, word)?;
    Known::look(&mut h)?.is_free(name)?;
    let record = Record::of(&domain::info(&mut h, id)?);
    let mut store = Store::open();
    match (&record, &store) {
        (None, None) => bail!("{word}: neither a Xenstore nor this program knows its name"),
        (Some(record), _) => record.rename(name)?,
        (None, Some(_)) => {}
    }
    match &mut store {
        Some(store) => rename_in_store(store, id, name),
        None => Ok(()),
    }
}

/// Changes a domain's name in the nodes that xl and the domain read.
///
/// # Errors
/// If the daemon refuses a request.
pub fn rename_in_store(store: &mut Store, id: DomId, name: &str) -> Result<()> {
    let home = path::home(id);
    if let Ok(vm) = store.read(&format!("{home}/vm")) {
        store.write(&format!("{vm}/name"), name)?;
    }
    store.write(&format!("{home}/name"), name)
}

/// The number of seconds for which Dom0's Linux has run.
pub fn own_uptime() -> Option<u64> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    text.split('.').next()?.parse().ok()
}
