//! What the guest sets up for delivery: FIFO control blocks and event arrays, priorities, the place
//! of its vCPU info.

use super::channel::State;
use super::delivery::INFO_BYTES;
use super::fifo::{CONTROL_BYTES, PRIORITY_MIN, WORDS_PER_PAGE};
use super::{EventError, Notice, SharedWords, TWO_LEVEL_PORTS, Table};
use crate::kit::{PAGE_SIZE, Port, VcpuId};

impl<P: SharedWords> Table<P> {
    /// Gives `vcpu` its control block at `offset` of `page`; the first one switches the domain to the
    /// FIFO ABI (`EVTCHNOP_init_control`).
    ///
    /// # Errors
    /// No such vCPU, a bad offset, or the vCPU has a control block.
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
            let mut next = book.next_used(1);
            while let Some(port) = next.filter(|p| p.0 < TWO_LEVEL_PORTS) {
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

    /// Adds `page` to the event array (`EVTCHNOP_expand_array`); `notify` hears of the events that were
    /// waiting for it.
    ///
    /// # Errors
    /// [`EventError::TwoLevel`], or [`EventError::NoSpace`] when the array is complete.
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

    /// Sets the FIFO priority of `port`, for the next time it becomes pending
    /// (`EVTCHNOP_set_priority`).
    ///
    /// # Errors
    /// [`EventError::TwoLevel`]; a bad port, an unused one, a bad priority.
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

    /// Moves the info of `vcpu` to `offset` of `page`, with what it holds now; everything is marked
    /// pending so that nothing is lost (`VCPUOP_register_vcpu_info`).
    ///
    /// # Errors
    /// No such vCPU, a bad offset, or it has been moved already.
    pub fn register_info(
        &self,
        vcpu: VcpuId,
        page: P,
        offset: usize,
    ) -> Result<Notice, EventError> {
        self.vcpu(vcpu)?;
        if offset > PAGE_SIZE - INFO_BYTES || !offset.is_multiple_of(8) {
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
