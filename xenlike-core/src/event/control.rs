//! What the guest sets up for delivery: FIFO control blocks and event arrays, priorities,
//! the location of its vcpu_info.

use super::channel::State;
use super::delivery::INFO_BYTES;
use super::fifo::{CONTROL_BYTES, PRIORITY_MIN, WORDS_PER_PAGE};
use super::{EventError, Notice, SharedWords, Table};
use crate::kit::{PAGE_SIZE, Port, VcpuId};

impl<P: SharedWords> Table<P> {
    /// Gives `vcpu` the control block at `offset` of `page` (`EVTCHNOP_init_control`). The first control block switches
    /// the domain to the FIFO ABI.
    ///
    /// # Errors
    /// [`EventError::NoVcpu`] if there is no such vCPU, [`EventError::BadArgument`] for a bad offset or if the vCPU has
    /// a control block already, [`EventError::Dying`] if the domain is being destroyed.
    pub fn init_control(&self, vcpu: VcpuId, page: P, offset: u32) -> Result<(), EventError> {
        self.vcpu(vcpu)?;
        let offset = offset as usize;
        if offset > PAGE_SIZE - CONTROL_BYTES || !offset.is_multiple_of(8) {
            return Err(EventError::BadArgument);
        }
        let book = self.book.lock();
        if book.dying {
            return Err(EventError::Dying);
        }
        let mut delivery = self.delivery.lock();
        delivery.set_control(vcpu, page, offset)?;
        if !delivery.is_fifo() {
            // The delivery lock is held, so no event is sent between the check of a port and the switch.
            let mut next = book.next_used(1);
            while let Some(port) = next.filter(|p| p.0 < delivery.ports()) {
                if let Some(channel) = self.channel(port) {
                    delivery.note_early(port, channel);
                }
                next = book.next_used(port.0.saturating_add(1));
            }
            delivery.enter_fifo();
        }
        Ok(())
    }

    /// Whether the domain has switched to the FIFO ABI.
    pub fn is_fifo(&self) -> bool {
        self.delivery.lock().is_fifo()
    }

    /// Adds `page` to the event array (`EVTCHNOP_expand_array`). Events that were pending without an event word are
    /// linked now, and `notify` is called for each.
    ///
    /// # Errors
    /// [`EventError::TwoLevel`] before the switch to FIFO, [`EventError::NoSpace`] if the array
    /// is complete, [`EventError::NoMemory`], or [`EventError::Dying`].
    pub fn expand_array(&self, page: P, notify: &mut dyn FnMut(Notice)) -> Result<(), EventError> {
        let first = {
            let book = self.book.lock();
            if book.dying {
                return Err(EventError::Dying);
            }
            self.delivery.lock().add_array_page(page)?
        };
        for i in 0..WORDS_PER_PAGE {
            let port = Port(first.0.saturating_add(i));
            if let Some(channel) = self.channel(port) {
                let mut delivery = self.delivery.lock();
                if delivery.take_early(channel) {
                    let upcall = delivery.set_pending(port, channel).upcall;
                    drop(delivery);
                    notify(Notice {
                        dom: self.dom(),
                        upcall,
                        polled: None,
                    });
                }
            }
        }
        Ok(())
    }

    /// Sets the FIFO priority of `port`, which applies the next time that it is linked (`EVTCHNOP_set_priority`).
    ///
    /// # Errors
    /// [`EventError::TwoLevel`] before the switch to FIFO, [`EventError::BadPort`] or [`EventError::Unused`] for a port
    /// that doesn't exist or isn't open, [`EventError::BadArgument`] for a bad priority.
    pub fn set_priority(&self, port: Port, priority: u32) -> Result<(), EventError> {
        let channel = self.channel(port).ok_or(EventError::BadPort)?;
        if !self.delivery.lock().is_fifo() {
            return Err(EventError::TwoLevel);
        }
        let state = channel.state.lock();
        if matches!(*state, State::Free | State::Reserved) {
            return Err(EventError::Unused);
        }
        if priority > PRIORITY_MIN {
            return Err(EventError::BadArgument);
        }
        channel.set_priority(priority);
        Ok(())
    }

    /// Moves the vcpu_info of `vcpu` to `offset` of `page`, with its contents (`VCPUOP_register_vcpu_info`). All ports
    /// are marked as perhaps pending there, so that no event is lost.
    ///
    /// # Errors
    /// [`EventError::NoVcpu`] if there is no such vCPU, [`EventError::BadArgument`] for a bad offset or if it has been
    /// moved before, [`EventError::Dying`] if the domain is being destroyed.
    pub fn register_info(
        &self,
        vcpu: VcpuId,
        page: P,
        offset: usize,
    ) -> Result<Notice, EventError> {
        self.vcpu(vcpu)?;
        if offset > PAGE_SIZE - INFO_BYTES {
            return Err(EventError::BadArgument);
        }
        let book = self.book.lock();
        if book.dying {
            return Err(EventError::Dying);
        }
        let upcall = self.delivery.lock().move_info(vcpu, page, offset)?;
        Ok(Notice {
            dom: self.dom(),
            upcall,
            polled: None,
        })
    }
}
