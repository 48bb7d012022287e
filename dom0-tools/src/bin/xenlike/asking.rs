//! `shutdown` and `reboot`: asks a domain's kernel through Xenstore, and waits for its reaction.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use dom0_tools::hyper::{DomId, domain};
use dom0_tools::ops::{Wish, wish_path};
use dom0_tools::verbs::{self, Request};

use crate::commands::other;
use crate::privcmd::Privcmd;
use crate::store::Store;

/// How long a domain's kernel may take to react to a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two checks.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs `shutdown` or `reboot` for one domain or for all.
///
/// # Errors
/// If a domain can't be asked, or its kernel doesn't react in time.
pub fn ask(request: &Request, wish: Wish) -> Result<()> {
    verbs::one_or_all(request).map_err(|sentence| anyhow!(sentence))?;
    let mut h = Privcmd::open()?;
    let ids = match request.only_word() {
        Some(word) => vec![other(&mut h, word)?],
        None => {
            let all = domain::list(&mut h)?.into_iter().map(|info| info.id);
            all.filter(|id| *id != DomId::ZERO).collect()
        }
    };
    let mut store =
        Store::open().context("there is no Xenstore, so domains can't be asked; use destroy")?;
    for id in &ids {
        store.write(&wish_path(*id), wish.word())?;
    }
    let silent: Vec<String> = ids
        .iter()
        .filter(|id| !takes_up(&mut h, &mut store, **id))
        .map(DomId::to_string)
        .collect();
    if !silent.is_empty() {
        bail!(
            "domain {}: its kernel has not taken the request up; use its own command in its console, or destroy",
            silent.join(", ")
        );
    }
    while request.has("wait") && ids.iter().any(|id| runs(&mut h, *id)) {
        sleep(PAUSE);
    }
    Ok(())
}

fn runs(h: &mut Privcmd, id: DomId) -> bool {
    domain::info(h, id).is_ok_and(|info| info.ended.is_none())
}

/// Waits until the guest empties the node or the domain ends. After a timeout, the request is withdrawn.
fn takes_up(h: &mut Privcmd, store: &mut Store, id: DomId) -> bool {
    let (path, begun) = (wish_path(id), Instant::now());
    loop {
        if !runs(h, id) || !store.read(&path).is_ok_and(|word| !word.is_empty()) {
            return true;
        }
        if begun.elapsed() > PATIENCE {
            // The domain may be gone by now.
            let _ = store.write(&path, "");
            return false;
        }
        sleep(PAUSE);
    }
}
