//! `shutdown` and `reboot`: a domain's kernel is asked by its Xenstore, and what comes of it is waited for.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use dom0_tools::hyper::{DomId, domain};
use dom0_tools::ops::{Wish, wish_path};

use crate::commands::other;
use crate::privcmd::Privcmd;
use crate::store::Store;

/// How long a domain has to take a wish up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Whom to ask, and what to wait for.
#[derive(Args)]
pub struct Ask {
    /// Wait for the domain's end
    #[arg(short, long)]
    wait: bool,
    /// Ask all domains
    #[arg(short, long, conflicts_with = "domain")]
    all: bool,
    /// Name or number
    #[arg(required_unless_present = "all")]
    domain: Option<String>,
}

/// Asks one domain or all.
///
/// # Errors
/// If one can't be asked, or does not take the wish up.
pub fn ask(asked: &Ask, wish: Wish) -> Result<()> {
    let mut h = Privcmd::open()?;
    let ids = match &asked.domain {
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
    while asked.wait && ids.iter().any(|id| runs(&mut h, *id)) {
        sleep(PAUSE);
    }
    Ok(())
}

fn runs(h: &mut Privcmd, id: DomId) -> bool {
    domain::info(h, id).is_ok_and(|info| info.ended.is_none())
}

/// Waits until the node is emptied, or the domain has ended; a wish that nobody takes up is taken back.
fn takes_up(h: &mut Privcmd, store: &mut Store, id: DomId) -> bool {
    let (path, begun) = (wish_path(id), Instant::now());
    loop {
        if !runs(h, id) || !store.read(&path).is_ok_and(|word| !word.is_empty()) {
            return true;
        }
        if begun.elapsed() > PATIENCE {
            // It may be gone by now.
            let _ = store.write(&path, "");
            return false;
        }
        sleep(PAUSE);
    }
}
