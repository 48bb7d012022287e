//! The domains that this shell has started: their configurations, their consoles, and how they end.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::backlog::Backlog;
use super::registry;
use super::{Platform, Ring};
use crate::build::Progress;
use crate::config::{Action, DomainConfig};
use crate::hyper::{CallError, DomId, DomainInfo, Ending, domain};
use crate::ops::view::Names;
use crate::ops::{self, Created, create, random_uuid};
use crate::store::{Link, Page, Store};

/// The name of domain 0.
const DOMAIN_0: &str = "Domain-0";
/// Number of ended domains whose output is kept.
const KEPT_ENDED: usize = 16;
/// Maximum number of keys that wait for room in a console ring.
const MAX_KEYS: usize = 4096;

/// A living domain.
pub(super) struct Guest {
    pub(super) id: DomId,
    pub(super) config: DomainConfig,
    pub(super) started_ns: u64,
    backlog: Backlog,
    ring: Option<Box<dyn Ring>>,
    /// Its connection to the store.
    pub(super) link: Option<Link>,
    pub(super) uuid: [u8; 16],
    keys: VecDeque<u8>,
    /// Whether it has ended and is kept as it is.
    pub(super) preserved: bool,
}

/// A domain that has been removed.
struct Ended {
    name: String,
    id: DomId,
    backlog: Backlog,
}

/// A domain whose end has just been noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) name: String,
    pub(super) old: DomId,
    pub(super) ending: Option<Ending>,
    /// The domain that was started in its place.
    pub(super) successor: Option<DomId>,
}

impl Gone {
    /// A sentence that says what happened.
    pub(super) fn words(&self) -> String {
        match self.ending {
            Some(ending) => format!("{} {ending}", self.name),
            None => format!("{} is gone", self.name),
        }
    }

    /// Whether the domain ended well, for the command's status.
    pub(super) fn verdict(&self) -> Result<(), String> {
        match self.ending {
            Some(Ending::PowerOff | Ending::Reboot | Ending::Suspend) => Ok(()),
            _ => Err(self.words()),
        }
    }
}

/// The result of [`Guests::reap`].
#[derive(Debug, Default)]
pub(super) struct Reaped {
    pub(super) gone: Vec<Gone>,
    /// Messages for the user.
    pub(super) notices: Vec<String>,
}

/// All domains of this shell.
#[derive(Default)]
pub(super) struct Guests {
    pub(super) guests: Vec<Guest>,
    ended: VecDeque<Ended>,
    pub(super) store: Store,
    /// Whether requests to the store were left for the next turn.
    pub(super) busy: bool,
}

impl Names for Guests {
    fn name(&self, id: DomId) -> String {
        if id == DomId::ZERO {
            return DOMAIN_0.to_string();
        }
        match self.guests.iter().find(|guest| guest.id == id) {
            Some(guest) => guest.config.name.clone(),
            None => format!("(domain {id})"),
        }
    }

    fn config(&self, id: DomId) -> Option<DomainConfig> {
        let guest = self.guests.iter().find(|guest| guest.id == id)?;
        Some(guest.config.clone())
    }
}

impl Guest {
    fn drain(&mut self) {
        let Some(ring) = &mut self.ring else { return };
        let mut output = Vec::new();
        ring.take(&mut output);
        self.backlog.add(&output);
        let taken = ring.give(self.keys.make_contiguous());
        self.keys.drain(..taken);
    }
}

impl Guests {
    pub(super) fn all(&self) -> &[Guest] {
        &self.guests
    }

    fn get(&mut self, id: DomId) -> Option<&mut Guest> {
        self.guests.iter_mut().find(|guest| guest.id == id)
    }

    /// The living domain with this name or number.
    pub(super) fn find(&self, word: &str) -> Option<DomId> {
        let named = self.guests.iter().find(|guest| guest.config.name == word);
        let numbered = || {
            self.guests
                .iter()
                .find(|guest| guest.id.0.to_string() == word)
        };
        match named.or_else(numbered) {
            Some(guest) => Some(guest.id),
            None if word == "0" || word == DOMAIN_0 => Some(DomId::ZERO),
            None => None,
        }
    }

    /// Checks that no domain has this name.
    fn is_free(&self, name: &str) -> Result<(), String> {
        let mut guests = self.guests.iter();
        if guests.any(|guest| guest.config.name == name) || name == DOMAIN_0 {
            return Err(format!("{name}: there is a domain of that name already"));
        }
        Ok(())
    }

    /// Renames a domain, here and in the store.
    pub(super) fn rename(&mut self, id: DomId, name: &str) -> Result<(), String> {
        ops::check_name(name)?;
        self.is_free(name)?;
        let Some(guest) = self.get(id) else {
            return Err(format!("domain {id} was not created by this shell"));
        };
        guest.config.name = name.to_string();
        let uuid = guest.uuid;
        registry::rename(&mut self.store, id, &uuid, name);
        Ok(())
    }

    /// Creates a paused domain, opens its console and Xenstore rings, and enters it in the store.
    pub(super) fn create<P: Platform>(
        &mut self,
        platform: &mut P,
        config: DomainConfig,
        progress: &mut dyn Progress,
    ) -> Result<DomId, String> {
        self.is_free(&config.name)?;
        let guest = start(platform, config, progress, &mut self.store)?;
        let id = guest.id;
        self.ended.retain(|ended| ended.name != guest.config.name);
        self.guests.push(guest);
        Ok(id)
    }

    /// Destroys a domain. Its output is kept.
    pub(super) fn destroy<P: Platform>(
        &mut self,
        platform: &mut P,
        id: DomId,
    ) -> Result<(), String> {
        let Some(at) = self.guests.iter().position(|guest| guest.id == id) else {
            return domain::destroy(platform, id).map_err(|error| error.to_string());
        };
        if let Some(guest) = self.guests.get_mut(at) {
            guest.drain();
            // Its pages must be unmapped here before all its memory can be freed.
            guest.ring = None;
            guest.link = None;
        }
        domain::destroy(platform, id).map_err(|error| error.to_string())?;
        let guest = self.guests.remove(at);
        registry::leave(&mut self.store, id, &guest.uuid);
        self.keep(guest);
        Ok(())
    }

    fn keep(&mut self, guest: Guest) {
        self.ended.push_back(Ended {
            name: guest.config.name,
            id: guest.id,
            backlog: guest.backlog,
        });
        if self.ended.len() > KEPT_ENDED {
            self.ended.pop_front();
        }
    }

    /// Takes all domains' new output, sends keys that had no room before, and answers requests to the store.
    pub(super) fn drain(&mut self) {
        for guest in &mut self.guests {
            guest.drain();
        }
        self.serve_store();
    }

    /// Sends keys to a domain.
    pub(super) fn give(&mut self, id: DomId, keys: &[u8]) {
        if let Some(guest) = self.get(id) {
            let room = MAX_KEYS.saturating_sub(guest.keys.len());
            guest.keys.extend(keys.iter().take(room));
            guest.drain();
        }
    }

    /// A domain's output that has not been shown.
    pub(super) fn unseen(&mut self, id: DomId) -> Vec<u8> {
        self.get(id)
            .map(|guest| guest.backlog.take_unseen())
            .unwrap_or_default()
    }

    /// The unseen output of a domain that has just ended, and of its successor.
    pub(super) fn unseen_after(&mut self, end: &Gone) -> Vec<u8> {
        let mut text = self.unseen(end.old);
        if let Some(ended) = self
            .ended
            .iter_mut()
            .rev()
            .find(|ended| ended.id == end.old)
        {
            text.extend(ended.backlog.take_unseen());
        }
        if let Some(successor) = end.successor {
            text.extend(self.unseen(successor));
        }
        text
    }

    /// All kept output of an ended domain, by its name or number.
    pub(super) fn last_words(&self, word: &str) -> Option<Vec<u8>> {
        let is = |ended: &&Ended| ended.name == word || ended.id.0.to_string() == word;
        self.ended
            .iter()
            .rev()
            .find(is)
            .map(|ended| ended.backlog.all())
    }

    /// Whether a domain, which may be one of those just gone, has printed this text.
    pub(super) fn printed(&self, id: DomId, gone: &[Gone], text: &[u8]) -> bool {
        let living = |id| {
            self.guests
                .iter()
                .find(|guest| guest.id == id)
                .map(|guest| &guest.backlog)
        };
        let end = gone.iter().find(|end| end.old == id);
        let log = match end {
            None => living(id),
            Some(end) => match end.successor {
                Some(successor) => living(successor),
                None => self
                    .ended
                    .iter()
                    .rev()
                    .find(|ended| ended.id == id)
                    .map(|ended| &ended.backlog),
            },
        };
        log.is_some_and(|log| log.contains(text))
    }

    /// Finds domains that have ended, and acts as their configurations say.
    pub(super) fn reap<P: Platform>(&mut self, platform: &mut P) -> Reaped {
        let mut reaped = Reaped::default();
        if self.guests.is_empty() {
            return reaped;
        }
        let infos = match domain::list(platform) {
            Ok(infos) => infos,
            Err(error) => {
                reaped.notices.push(error.to_string());
                return reaped;
            }
        };
        let ids: Vec<DomId> = self
            .guests
            .iter()
            .filter(|guest| !guest.preserved)
            .map(|guest| guest.id)
            .collect();
        for id in ids {
            let info = infos.iter().find(|info| info.id == id);
            if info.is_none_or(|info| info.ended.is_some()) {
                self.end(platform, id, info, &mut reaped);
            }
        }
        reaped
    }

    fn end<P: Platform>(
        &mut self,
        platform: &mut P,
        id: DomId,
        info: Option<&DomainInfo>,
        reaped: &mut Reaped,
    ) {
        let Some(guest) = self.get(id) else { return };
        guest.drain();
        let config = guest.config.clone();
        let ending = info.and_then(|info| info.ended);
        let action = ending.map_or(Action::Destroy, |ending| config.action_at(ending));
        let mut gone = Gone {
            name: config.name.clone(),
            old: id,
            ending,
            successor: None,
        };
        reaped.notices.push(gone.words());
        let backlog = match action {
            Action::Preserve => {
                guest.preserved = true;
                reaped.gone.push(gone);
                return;
            }
            Action::RenameRestart => {
                guest.preserved = true;
                guest.config.name = format!("{}-{id}", config.name);
                let (name, uuid) = (guest.config.name.clone(), guest.uuid);
                registry::rename(&mut self.store, id, &uuid, &name);
                Backlog::default()
            }
            Action::Destroy | Action::Restart => {
                let backlog = match action {
                    Action::Restart => core::mem::take(&mut guest.backlog),
                    _ => Backlog::default(),
                };
                if let Err(cause) = self.destroy(platform, id) {
                    reaped.notices.push(format!("{}: {cause}", config.name));
                }
                backlog
            }
        };
        if action != Action::Destroy {
            self.ended.retain(|ended| ended.id != id);
            match self.restart(platform, config, backlog) {
                Ok(successor) => gone.successor = Some(successor),
                Err(cause) => reaped
                    .notices
                    .push(format!("{} is not started again: {cause}", gone.name)),
            }
        }
        reaped.gone.push(gone);
    }

    fn restart<P: Platform>(
        &mut self,
        platform: &mut P,
        config: DomainConfig,
        backlog: Backlog,
    ) -> Result<DomId, String> {
        let mut guest = start(platform, config, &mut (), &mut self.store)?;
        guest.backlog = backlog;
        let id = guest.id;
        self.guests.push(guest);
        domain::unpause(platform, id).map_err(|error| error.to_string())?;
        Ok(id)
    }
}

/// Creates a domain with its console and its entries in the store.
fn start<P: Platform>(
    platform: &mut P,
    config: DomainConfig,
    progress: &mut dyn Progress,
    store: &mut Store,
) -> Result<Guest, String> {
    let uuid = random_uuid(platform.now_ns());
    let files = platform.files();
    let served = ops::Store::Served;
    let backend = DomId::ZERO;
    let created = create(platform, &config, &*files, uuid, backend, served, progress);
    let created = created.map_err(|error| error.to_string())?;
    let (ring, page) = match open(platform, &created) {
        Ok(opened) => opened,
        Err(error) => {
            // The ring's error is the one to report.
            let _ = domain::destroy(platform, created.id);
            return Err(error.to_string());
        }
    };
    let uuid = config.uuid.unwrap_or(uuid);
    registry::enter(store, &config, &created, &uuid);
    Ok(Guest {
        id: created.id,
        config,
        started_ns: platform.now_ns(),
        backlog: Backlog::default(),
        ring: Some(ring),
        link: Some(Link::new(page, created.id)),
        uuid,
        keys: VecDeque::new(),
        preserved: false,
    })
}

/// The console's ring and the store's.
type Rings = (Box<dyn Ring>, Box<dyn Page>);

/// Opens both rings of a new domain.
fn open<P: Platform>(platform: &mut P, created: &Created) -> Result<Rings, CallError> {
    let ring = platform.open_console(created)?;
    let page = platform.open_store(created)?;
    Ok((ring, page))
}
