//! Event channels through Linux's `/dev/xen/evtchn` (Linux include/uapi/xen/evtchn.h).

#![expect(unsafe_code, reason = "ioctl")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::ptr;

use anyhow::{Context, Result};
use dom0_tools::hyper::{DomId, Port};

const DEVICE: &str = "/dev/xen/evtchn";

/// `struct ioctl_evtchn_bind_interdomain`.
#[repr(C)]
struct BindInterdomain {
    remote_domain: u32,
    remote_port: u32,
}

/// `_IOC(_IOC_NONE, 'E', number, size)`.
const fn ioctl_number(number: u64, size: usize) -> u64 {
    (size as u64) << 16 | (b'E' as u64) << 8 | number
}

const BIND_INTERDOMAIN: u64 = ioctl_number(1, size_of::<BindInterdomain>());
const NOTIFY: u64 = ioctl_number(4, size_of::<u32>());

/// An event channel to another domain. Dropping it closes the channel.
pub struct Channel {
    device: File,
    port: u32,
}

impl Channel {
    /// Connects to a port that the domain's builder allocated for this domain.
    ///
    /// # Errors
    /// If the domain is gone, or the port is connected already.
    pub fn connect(dom: DomId, remote: Port) -> Result<Channel> {
        let mut device = OpenOptions::new();
        device.read(true).write(true).custom_flags(libc::O_NONBLOCK);
        let device = device.open(DEVICE).context(DEVICE)?;
        let mut request = BindInterdomain {
            remote_domain: dom.0.into(),
            remote_port: remote.0,
        };
        let port = ioctl(&device, BIND_INTERDOMAIN, &mut request)
            .context("connecting with the domain's event channel")?;
        Ok(Channel { device, port })
    }

    /// Signals the other domain.
    ///
    /// # Errors
    /// If the channel is closed.
    pub fn notify(&self) -> io::Result<()> {
        let mut port = self.port;
        ioctl(&self.device, NOTIFY, &mut port).map(drop)
    }

    /// The file descriptor that becomes readable when the other domain signals.
    pub fn fd(&self) -> RawFd {
        self.device.as_raw_fd()
    }

    /// Takes pending signals and unmasks their ports for the next ones.
    ///
    /// # Errors
    /// If the device fails.
    pub fn take(&mut self) -> io::Result<()> {
        let mut ports = [0; 64];
        match self.device.read(&mut ports) {
            // A port that was read stays masked until it is written back.
            Ok(bytes) => self
                .device
                .write_all(ports.get(..bytes).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn ioctl<T>(device: &File, number: u64, request: &mut T) -> io::Result<u32> {
    // SAFETY: each request number is used with its own structure, which holds no pointers.
    let result = unsafe {
        libc::ioctl(
            device.as_raw_fd(),
            number as libc::Ioctl,
            ptr::from_mut(request),
        )
    };
    u32::try_from(result).map_err(|_| io::Error::last_os_error())
}
