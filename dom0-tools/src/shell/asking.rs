//! `shutdown` and `reboot`: asks a domain's kernel, and waits for its reaction.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::guests::Gone;
use super::{Mode, Platform, Shell};
use crate::hyper::DomId;
use crate::ops::Wish;
use crate::ops::view::Names;
use crate::verbs::{self, Request};

/// How long a domain's kernel may take to accept a request. A running kernel does so at once.
const PATIENCE_NS: u64 = 10_000_000_000;

/// What the shell waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// The kernel accepts the request before this time.
    Answer(u64),
    /// The kernel accepts the request before this time, and then the domain ends.
    AnswerThenEnd(u64),
    /// The domain ends.
    End,
}

impl Until {
    /// The time limit, if there is one.
    pub(super) fn limit(self) -> Option<u64> {
        match self {
            Until::Answer(at) | Until::AnswerThenEnd(at) => Some(at),
            Until::End => None,
        }
    }
}

impl<P: Platform> Shell<P> {
    pub(super) fn ask(&mut self, request: &Request, wish: Wish) -> Result<Mode, String> {
        let (all, wait) = (request.has("all"), request.has("wait"));
        verbs::one_or_all(request)?;
        let wanted = if all {
            let living = self.guests.all().iter().filter(|guest| !guest.preserved);
            living.map(|guest| guest.id).collect()
        } else {
            Vec::from([self.other_domain(request.word(0))?])
        };
        // Requests that the guests have already sent count.
        self.guests.drain();
        let (asked, deaf): (Vec<DomId>, Vec<DomId>) =
            wanted.into_iter().partition(|&id| self.guests.listens(id));
        for &id in &asked {
            self.guests.wish(id, Some(wish));
        }
        let until_ns = self.platform.now_ns().saturating_add(PATIENCE_NS);
        let until = if wait {
            Until::AnswerThenEnd(until_ns)
        } else {
            Until::Answer(until_ns)
        };
        let faults = deaf
            .iter()
            .map(|&id| self.fault(id, "does not listen to requests"))
            .collect();
        Ok(Mode::Asking {
            asked,
            until,
            faults,
        })
    }

    fn fault(&self, id: DomId, what: &str) -> String {
        let name = self.guests.name(id);
        format!(
            "{name}: its kernel {what}; use its own command in `console {name}`, or `destroy {name}`"
        )
    }

    /// Checks what the domains that were asked have done.
    pub(super) fn asking(
        &mut self,
        mut asked: Vec<DomId>,
        until: Until,
        mut faults: Vec<String>,
        gone: &[Gone],
    ) {
        asked.retain(|id| !gone.iter().any(|end| end.old == *id));
        let late = until.limit().is_some_and(|at| self.platform.now_ns() >= at);
        let silent =
            |shell: &Self, id: DomId| until != Until::End && !shell.guests.has_taken_up(id);
        if late {
            for id in asked
                .iter()
                .copied()
                .filter(|&id| silent(self, id))
                .collect::<Vec<_>>()
            {
                self.guests.wish(id, None);
                faults.push(self.fault(id, "has not taken the request up"));
                asked.retain(|other| *other != id);
            }
        }
        let all_know = !asked.iter().any(|&id| silent(self, id));
        let until = match until {
            Until::Answer(_) if all_know => return self.asked(&faults),
            Until::AnswerThenEnd(_) if all_know => Until::End,
            until => until,
        };
        if asked.is_empty() {
            return self.asked(&faults);
        }
        self.mode = Mode::Asking {
            asked,
            until,
            faults,
        };
    }

    fn asked(&mut self, faults: &[String]) {
        self.finish(match faults {
            [] => Ok(()),
            faults => Err(faults.join("\nerror: ")),
        });
    }
}
