//! A check of both ends of each event channel, for the audit of test builds.

use crate::kit::atomic::Ordering;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use super::channel::{Channel, State};
use super::{SharedWords, StatusKind, Table, is_per_vcpu};
use crate::kit::{Port, VcpuId};

impl<P: SharedWords> Table<P> {
    /// Compares the state of each port with that of its peer, and with the table's own records. Returns
    /// the number of open ports.
    ///
    /// # Errors
    /// A description of the first inconsistency.
    pub fn check(&self) -> Result<u64, String> {
        let at = |port: Port, what: &str| {
            Err(format!(
                "port {} of domain {}: {what}",
                port.0,
                self.dom().0
            ))
        };
        let (mut open, mut pirqs) = (0u64, 0usize);
        let mut next = 1;
        while next < self.port_limit {
            let port = Port(next);
            let Some(channel) = self.channel(port) else {
                // Continues with the next 64 ports, as these were never allocated.
                next = (next | 63).saturating_add(1);
                match self.book.lock().used_word(port) {
                    0 => continue,
                    _ => {
                        return at(
                            port,
                            "it or a port near it is noted as used, and was never made",
                        );
                    }
                }
            };
            next = next.saturating_add(1);
            let is_noted = self.book.lock().used_word(port) >> (port.0 % 64) & 1 != 0;
            let is_open = !matches!(*channel.state.lock(), State::Free | State::Reserved);
            if is_open != is_noted {
                return at(port, "its state and the note of used ports differ");
            }
            open = open.saturating_add(is_open.into());
            pirqs = pirqs.saturating_add(matches!(*channel.state.lock(), State::Pirq(_)).into());
            if let Err(what) = self.check_other_side(port, channel) {
                return at(port, &what);
            }
        }
        if self.book.lock().pirqs.len() != pirqs {
            return Err(format!(
                "domain {}: {pirqs} ports for interrupts, and as many are not noted",
                self.dom().0
            ));
        }
        self.check_virqs()?;
        self.check_pollers()?;
        Ok(open)
    }

    /// Checks that the other end of the port's connection agrees.
    fn check_other_side(&self, port: Port, channel: &Channel<P>) -> Result<(), String> {
        let peer = match &*channel.state.lock() {
            State::Interdomain { remote, port } => Some((Arc::clone(remote), *port)),
            _ => None,
        };
        if let Some((remote, remote_port)) = peer {
            let other = remote
                .channel(remote_port)
                .ok_or("its peer was never made")?;
            return match &*other.state.lock() {
                State::Interdomain {
                    remote: back,
                    port: back_port,
                } if core::ptr::eq(Arc::as_ptr(back), self) && *back_port == port => Ok(()),
                _ => Err(format!(
                    "its peer, port {} of domain {}, is not connected with it",
                    remote_port.0,
                    remote.dom().0
                )),
            };
        }
        match *channel.state.lock() {
            State::Virq(virq) => {
                let vcpu = if is_per_vcpu(virq) {
                    channel.notify()
                } else {
                    VcpuId(0)
                };
                match self.virq_port(vcpu, virq) {
                    Some(noted) if noted == port => Ok(()),
                    noted => Err(format!("virtual IRQ {virq} of {vcpu:?} goes to {noted:?}")),
                }
            }
            State::Pirq(pirq) => match self.pirq_port(pirq) {
                Some(noted) if noted == port => Ok(()),
                noted => Err(format!("interrupt {pirq} goes to {noted:?}")),
            },
            _ => Ok(()),
        }
    }

    /// Checks that each virtual IRQ that a vCPU has bound leads to a port of that kind.
    fn check_virqs(&self) -> Result<(), String> {
        for (n, vcpu) in (0..).zip(&self.vcpus) {
            for (virq, slot) in (0..).zip(&vcpu.virqs) {
                let port = slot.load(Ordering::Relaxed);
                let kind = self.status(Port(port)).map(|status| status.kind);
                if port != 0 && kind != Ok(StatusKind::Virq(virq)) {
                    return Err(format!(
                        "domain {}: virtual IRQ {virq} of vCPU {n} goes to port {port}, which is {kind:?}",
                        self.dom().0
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_pollers(&self) -> Result<(), String> {
        let polls = self
            .vcpus
            .iter()
            .filter(|v| v.polls.load(Ordering::Relaxed) != 0);
        let (counted, noted) = (polls.count(), self.pollers.load(Ordering::Relaxed));
        if counted == noted as usize {
            return Ok(());
        }
        Err(format!(
            "domain {}: {counted} vCPUs poll, {noted} noted",
            self.dom().0
        ))
    }

    /// Whether `vcpu` is recorded as polling.
    pub fn polls(&self, vcpu: VcpuId) -> bool {
        self.vcpu(vcpu)
            .is_ok_and(|own| own.polls.load(Ordering::Relaxed) != 0)
    }

    /// Calls `each` with each page that the domain has provided for the delivery of its events.
    ///
    /// # Errors
    /// The first error that `each` returns.
    pub fn for_each_page(
        &self,
        each: &mut dyn FnMut(&P) -> Result<(), String>,
    ) -> Result<(), String> {
        self.delivery.lock().pages().try_for_each(each)
    }
}
