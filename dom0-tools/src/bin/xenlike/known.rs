//! What is known about domains besides the hypervisor's data: their configurations, and their names, from Xenstore
//! or, where there is none, from this program's own records.

use anyhow::{Result, bail};
use dom0_tools::config::DomainConfig;
use dom0_tools::hyper::{DomId, domain};
use dom0_tools::ops::view::Names;
use dom0_tools::store::path;
use serde_json::Value;

use crate::libxl;
use crate::privcmd::Privcmd;
use crate::runtime::Record;
use crate::store::Store;

/// The name of domain 0 in every listing.
pub const DOMAIN_0: &str = "Domain-0";

/// The names of all domains, read in advance.
pub struct Known {
    names: Vec<(DomId, String)>,
    records: Vec<Record>,
}

impl Known {
    /// Reads the names of all domains.
    ///
    /// # Errors
    /// If the hypervisor refuses to list domains.
    pub fn look(h: &mut Privcmd) -> Result<Self> {
        let infos = domain::list(h)?;
        let records: Vec<Record> = infos.iter().filter_map(Record::of).collect();
        let names = match Store::open() {
            Some(mut store) => {
                let mut name = |id: DomId| {
                    let name = store.read(&format!("{}/name", path::home(id)));
                    name.ok().map(|name| (id, name))
                };
                infos.iter().filter_map(|info| name(info.id)).collect()
            }
            None => {
                let named = |record: &Record| (record.id, record.config.name.clone());
                records.iter().map(named).collect()
            }
        };
        Ok(Self { names, records })
    }

    /// The domain that has this name.
    pub fn by_name(&self, word: &str) -> Option<DomId> {
        let mut names = self.names.iter();
        let named = names.find(|(_, name)| name == word).map(|(id, _)| *id);
        named.or((word == DOMAIN_0).then_some(DomId::ZERO))
    }

    /// Checks that no domain has this name.
    ///
    /// # Errors
    /// A message that names the domain which has the name.
    pub fn is_free(&self, name: &str) -> Result<()> {
        match self.by_name(name) {
            Some(_) => bail!("{name}: there is a domain of that name already"),
            None => Ok(()),
        }
    }
}

impl Names for Known {
    fn name(&self, id: DomId) -> String {
        let known = self.names.iter().find(|(known, _)| *known == id);
        match known {
            Some((_, name)) => name.clone(),
            None if id == DomId::ZERO => DOMAIN_0.to_owned(),
            None => format!("(domain {id})"),
        }
    }

    fn config(&self, id: DomId) -> Option<DomainConfig> {
        let record = self.records.iter().find(|record| record.id == id)?;
        Some(record.config.clone())
    }

    fn libxl_config(&self, id: DomId, uuid: &str) -> Option<Value> {
        libxl::recall(id, uuid)
    }
}
